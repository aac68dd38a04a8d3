"""NLI keeps the contract of tasks; a long premise is read whole, with the hypothesis in every window."""

import numpy as np

from bertkit.encode import cut_rows
from bertkit.tasks.nli import NLI
from tests.families import maker_of, tokenizer_of
from tests.unit.tasks.contract import TaskContract


class TestNLI(TaskContract):
    task = NLI(labels=("entailment", "neutral", "contradiction"))
    rows = (
        {"id": "0", "premise": "A man in a green coat is feeding ducks by the canal.",
         "hypothesis": "The man comes to the canal every morning.", "label": "neutral"},
        {"id": "1", "premise": "灯在第二幕时全灭了，剧院里一片漆黑。", "hypothesis": "剧院很亮。",
         "label": "contradiction"},
        {"id": "2", "premise": "The ferry leaves at seven and again at noon.",
         "hypothesis": "You can leave at noon.", "label": "entailment"},
    )  # fmt: skip


def test_the_hypothesis_stands_in_every_window_of_a_long_premise(tiny):
    row = {"id": "0", "premise": "bread " * 50, "hypothesis": "The man is late.", "label": "neutral"}
    store = cut_rows(TestNLI.task, [row], maker_of(tiny, max_length=24, stride=4)).store
    hypothesis = tokenizer_of(tiny, "wordpiece")(row["hypothesis"], add_special_tokens=False)["input_ids"]
    assert len(store) > 3
    for ids in np.split(store.input_ids, store.offsets[1:-1]):
        assert ids.tolist()[-len(hypothesis) - 1 : -1] == hypothesis
