"""The benchmark as a command: a study that can be read, and nothing half-written."""

from __future__ import annotations

import json

from bertkit.findings import from_json
from bertkit.studies.bench.switches import AS_GIVEN
from tests.cli.conftest import check

FEW = ("data.train_rows=12", "data.validation_rows=4", "train.batch_size=4", "hardware.precision=fp32", "-q")


def test_a_benchmark_is_a_study_with_a_page(bertkit, tmp_path):
    out = tmp_path / "speed"
    done = bertkit("bench", *FEW, "--rounds", "1", "--steps", "1", "--out", out, "--json")
    assert (done.code, done.err) == (0, "")
    results = json.loads(done.out)
    names = [line["name"] for line in results["lines"]["train"]]
    assert names[:2] == [AS_GIVEN, "train.order=length"]
    tables = {finding.title: finding for finding in from_json(results["findings"]) if finding.kind == "table"}
    assert [row[0] for row in tables["Training"].rows] == names
    assert {"hardware.padding_free=false", "model.attention=sdpa", "model.dropout=0"} <= {*names}
    for work in ("Training", "Evaluation", "Prediction"):
        first = dict(zip(tables[work].columns, tables[work].rows[0], strict=True))
        assert (first["variant"], first["ratio"], first["least"], first["most"]) == (AS_GIVEN, 1, 1, 1)
    study = json.loads((out / "study.json").read_text())
    assert study["headline"]["value"] == results["lines"]["train"][0]["tokens"]
    assert json.loads((out / "results.json").read_text())["lines"] == results["lines"]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Speed: sentiment, bundled:tiny" in page
    assert "train.order=length" in page
    check(bertkit("bench", *FEW, "--out", out), "is not empty", "a new name")


def test_growth_has_a_point_for_each_size(bertkit, tmp_path):
    done = bertkit("bench", "pos", *FEW, "--growth", "--largest", "30", "--out", tmp_path / "growth", "--json")
    assert (done.code, done.err) == (0, "")
    results = json.loads(done.out)
    series = {finding.title: finding for finding in from_json(results["findings"]) if finding.kind == "series"}
    assert series["A training step"].x == (1, 3, 10, 30)
    assert series["Memory of evaluation"].x == (1, 3)
    assert series["One document"].x == (1, 3, 10, 30)
    assert all(finding.log_x and all(value > 0 for value in line) for finding in series.values()
               for line in finding.lines.values())  # fmt: skip
    assert "<svg" in (tmp_path / "growth" / "report.html").read_text(encoding="utf-8")


def test_what_cannot_be_measured_is_refused_and_nothing_is_written(bertkit, tmp_path):
    out = tmp_path / "speed"
    check(bertkit("bench", "sentimnt", "--out", out), "there is no task or recipe 'sentimnt'", "sentiment")
    check(bertkit("bench", "classification", "-q", "--out", out), "no rows are given", "--train FILE")
    check(bertkit("bench", "train.ordr=length", "--out", out), "unknown key 'ordr'", "order")
    assert not out.exists()
