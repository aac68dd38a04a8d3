"""Broken files of every kind are refused or read, and never end or hold up the reader: the short form of the sweep."""

from __future__ import annotations

from tests.faults.bad_inputs import sweep


def test_no_bad_input_crashes_or_hangs_a_reader(tmp_path):
    counts = sweep(tmp_path, tries=1, seed=1, share=0.1)
    assert (counts.crashes, counts.hangs) == ([], [])
    assert counts.inputs > 50
    assert counts.refused > counts.inputs // 2
