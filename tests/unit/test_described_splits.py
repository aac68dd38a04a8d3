"""A task may say what it finds in the rows of each split, before anything is learned from them."""

from __future__ import annotations

import pytest

from bertkit.errors import BertkitError
from bertkit.recipe import Recipe
from bertkit.splits import read_splits
from bertkit.tasks.sentiment import Sentiment


class Counting(Sentiment):
    def describe(self, rows, where):
        if not rows:
            return ""
        if len(rows) == 1:
            raise BertkitError(f"{where}: one row says nothing", hint="give more")
        return f"{len(rows)} rows are counted"


@pytest.mark.parametrize("held_out", [2, 1])
def test_every_split_with_rows_is_described_by_the_task(tmp_path, held_out):
    for name, count in (("train", 4), ("validation", held_out)):
        (tmp_path / f"{name}.csv").write_text("text,label\n" + "".join(f"{name} {n},{n % 2}\n" for n in range(count)))
    data = {name: str(tmp_path / f"{name}.csv") for name in ("train", "validation")}
    recipe, said = Recipe(task={"name": "sentiment"}, data=data), []
    if held_out == 1:
        with pytest.raises(BertkitError, match="validation: one row says nothing"):
            read_splits(recipe, Counting(), said.append)
    else:
        read_splits(recipe, Counting(), said.append)
        assert said == ["train: 4 rows are counted", "validation: 2 rows are counted"]
