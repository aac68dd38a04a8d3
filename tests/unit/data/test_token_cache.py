"""What is kept is what would be made: the same windows, under a key that sees every difference."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import PreTokenizer

from bertkit.data import token_cache
from bertkit.data.token_cache import cut, key_of, load, save
from bertkit.data.windows import Pair, WindowMaker, Words
from bertkit.recipe import WindowsConfig
from bertkit.run import finetune
from tests.families import tokenizer_of

INPUTS = {
    "texts": ["A dog sleeps.", "", "An animal rests in the shade of a tree " * 20],
    "pairs": [Pair("Who sleeps?", "A dog sleeps. " * 30, long="second"), Pair("a", "b")],
    "words": [Words(["A", "dog", "sleeps"]), Words(["\u200b", "rests"] * 40)],
}
SETTINGS = WindowsConfig(max_length=24, stride=6)


@pytest.fixture
def maker(monkeypatch, tmp_path, tiny):
    monkeypatch.setenv(token_cache.FOLDER, str(tmp_path / "cache"))
    monkeypatch.setattr(token_cache, "WORTHWHILE", 1)

    def make(config: WindowsConfig = SETTINGS) -> WindowMaker:
        # a vocabulary in lower case, opened for words: it takes texts as well
        return WindowMaker(tokenizer_of(tiny, "wordpiece", words=True).backend_tokenizer, config, keep=True)

    return make


def equal(one, other) -> bool:
    return all(
        np.array_equal(value, getattr(other, name)) if isinstance(value, np.ndarray) else value == getattr(other, name)
        for name, value in vars(one).items()
    ) and all(
        value.dtype == getattr(other, name).dtype for name, value in vars(one).items() if isinstance(value, np.ndarray)
    )


@pytest.mark.parametrize("spans", [False, True])
@pytest.mark.parametrize("kind", INPUTS)
def test_what_comes_back_is_what_was_made(maker, tmp_path, monkeypatch, kind, spans):
    made = maker()(INPUTS[kind], spans=spans)
    assert not (tmp_path / "cache").exists()
    first = cut(maker(), INPUTS[kind], spans)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    monkeypatch.setattr(WindowMaker, "__call__", None)  # from here on nothing can be tokenised
    again = cut(maker(), iter(INPUTS[kind]), spans)
    assert equal(first, made)
    assert equal(again, made)


def test_a_run_on_kept_windows_tokenises_nothing_and_is_the_same_to_the_byte(maker, tmp_path, monkeypatch):
    recipe = {
        "task": "qa", "model": {"checkpoint": "bundled:tiny", "init": "scratch"}, "windows": {"max_length": 64},
        "data": {"train": "bundled:qa.json", "train_rows": 8, "validation_rows": 2}, "train": {"steps": 2},
        "hardware": {"precision": "fp32", "threads": 1},
    }  # fmt: skip
    finetune(recipe, tmp_path / "cut", quiet=True)
    with monkeypatch.context() as patch:
        patch.setattr(WindowMaker, "__call__", None)
        finetune(recipe, tmp_path / "kept", quiet=True)
    monkeypatch.setenv(token_cache.FOLDER, "")
    finetune(recipe, tmp_path / "without", quiet=True)
    for name in ("history.jsonl", "predictions.jsonl", "model/model.safetensors"):
        assert len({(tmp_path / run / name).read_bytes() for run in ("cut", "kept", "without")}) == 1, name


def test_another_setting_is_another_key(maker, tmp_path):
    cut(maker(), INPUTS["texts"], False)
    cut(maker(), INPUTS["texts"], True)
    cut(maker(WindowsConfig(max_length=24, stride=7)), INPUTS["texts"], False)
    cut(maker(), INPUTS["texts"][:2], False)
    assert len(list((tmp_path / "cache").iterdir())) == 4


def test_a_tokenizer_that_reads_special_tokens_as_text_has_windows_of_its_own(maker):
    # of `split_special_tokens`, which tokenizer.json does not hold
    plain, splitting = maker(), maker()
    splitting.tokenizer = Tokenizer.from_str(plain.tokenizer.to_str())
    splitting.tokenizer.encode_special_tokens = True
    found = [cut(one, ["a [SEP] dog"], False) for one in (plain, splitting)]
    assert equal(found[1], splitting(["a [SEP] dog"]))
    assert len(found[1].input_ids) > len(found[0].input_ids)


def test_windows_of_a_tokenizer_with_parts_in_python_are_not_kept(maker, tmp_path):
    class Whole:
        def pre_tokenize(self, text):
            text.split(lambda number, part: [part])

    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "a": 1}, "[UNK]"))
    tokenizer.pre_tokenizer = PreTokenizer.custom(Whole())  # as RoFormer's
    assert cut(WindowMaker(tokenizer, SETTINGS, keep=True), ["a"], False).input_ids.tolist() == [1]
    assert not (tmp_path / "cache").exists()


texts = st.text(max_size=5)


@given(st.lists(st.tuples(texts, texts), max_size=3), st.lists(st.tuples(texts, texts), max_size=3))
def test_pairs_share_a_key_only_when_they_are_equal(one, other):
    keys = [key_of([Pair(*entry) for entry in entries], "x") for entries in (one, other)]
    assert (keys[0] == keys[1]) == (one == other)


@pytest.mark.parametrize("package", ["bertkit", "tokenizers"])
def test_another_version_makes_its_windows_anew(monkeypatch, package):
    before = key_of(["ab"], "x")
    monkeypatch.setitem(token_cache.MADE_BY, package, "99.0")
    assert key_of(["ab"], "x") != before


def test_kinds_and_parts_do_not_run_into_each_other():
    found = {
        key_of(["ab"], "x"),
        key_of(["a", "b"], "x"),
        key_of([Words(["a", "b"])], "x"),
        key_of([Words(["ab"])], "x"),
        key_of([Pair("a", "b")], "x"),
        key_of([Pair("a", "b", long="second")], "x"),
        key_of(["ab"], "", "x"),
        key_of(["ab"]),
    }
    assert len(found) == 8


def test_a_damaged_file_is_made_again(maker, tmp_path):
    made = cut(maker(), INPUTS["texts"], False)
    (path,) = (tmp_path / "cache").iterdir()
    for damage in (b"", b"not an archive", path.read_bytes()[:100]):
        path.write_bytes(damage)
        assert equal(cut(maker(), INPUTS["texts"], False), made)
        assert load(path.parent, path.stem) is not None  # and kept again


def test_pickles_are_not_read(tmp_path):
    with (tmp_path / "evil.npz").open("wb") as file:
        np.savez(file, input_ids=np.array([object()], dtype=object))
    assert load(tmp_path, "evil") is None


def test_a_folder_that_cannot_be_written_is_no_error(maker, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv(token_cache.FOLDER, str(tmp_path / "file" / "below"))
    assert len(cut(maker(), INPUTS["texts"], False)) > 0


def test_what_was_not_used_for_longest_goes_first_and_files_of_others_stay(maker, tmp_path, monkeypatch):
    store = maker()(INPUTS["texts"])
    (tmp_path / "mine.npz").write_bytes(bytes(1 << 20))
    os.utime(tmp_path / "mine.npz", (1, 1))
    old, used, new, newest = (f"{number:040x}" for number in range(4))
    for age, key in enumerate((old, used, new)):
        save(tmp_path, key, store)
        os.utime(tmp_path / f"{key}.npz", (1000 + age, 1000 + age))
    assert load(tmp_path, old) is not None  # used just now
    size = (tmp_path / f"{old}.npz").stat().st_size
    monkeypatch.setattr(token_cache, "LARGEST", 2 * size + size // 2)
    save(tmp_path, newest, store)
    assert {path.stem for path in tmp_path.glob("*.npz")} == {old, newest, "mine"}


@pytest.fixture
def home(maker, tmp_path, monkeypatch):
    """A home of its own, and an environment that says nothing of caches."""
    monkeypatch.delenv(token_cache.FOLDER)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_by_default_tokens_lie_in_the_home_folder_for_their_owner_only(maker, home, umask):
    before = os.umask(umask)
    try:
        cut(maker(), INPUTS["texts"], False)
    finally:
        os.umask(before)
    (path,) = (path for path in home.rglob("*") if path.is_file())
    assert path.parent == home / ".cache" / "bertkit" / "windows"
    assert (path.parent.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o700, 0o600)


def test_doctor_shows_and_empties_the_cache(maker, home, capsys):
    from bertkit.cli.inventory import doctor

    def said(**options: bool) -> str:
        doctor(**options)
        return capsys.readouterr().out

    where = home / ".cache" / "bertkit" / "windows"
    assert said(emptied=True) == f"{where}: 0 files removed, 0.0 MiB\n"
    cut(maker(), INPUTS["texts"], False)
    cut(maker(), INPUTS["pairs"], False)
    (where / f".tmp-{0:040x}.npz").write_bytes(bytes(3 << 20))  # a process was killed
    assert "3 files, 3.0 MiB of at most 2048" in json.loads(said(as_json=True))["places"]["token cache"]
    assert said(emptied=True) == f"{where}: 3 files removed, 3.0 MiB\n"
    assert list(where.iterdir()) == []


def test_little_text_is_not_kept(maker, tmp_path, monkeypatch):
    monkeypatch.setattr(token_cache, "WORTHWHILE", 10_000)
    cut(maker(), INPUTS["texts"], False)
    assert not (tmp_path / "cache").exists()


def test_the_environment_says_where(monkeypatch, tmp_path):
    monkeypatch.setenv(token_cache.FOLDER, "")
    assert token_cache.cache_folder() is None
    monkeypatch.delenv(token_cache.FOLDER)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert token_cache.cache_folder() == tmp_path / "bertkit" / "windows"
