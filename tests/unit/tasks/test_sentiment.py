"""Sentiment keeps the contract of tasks, and stays what its name says."""

import pytest

from bertkit.errors import BertkitError
from bertkit.tasks.base import make_task
from bertkit.tasks.sentiment import Sentiment
from tests.unit.tasks.contract import TaskContract


class TestSentiment(TaskContract):
    task = Sentiment(labels=("negative", "positive"))
    rows = (
        {"id": "0", "text": "I couldn't ask for more, it is the best bread of the town.", "label": "positive"},
        {"id": "1", "text": "这家餐厅的菜太咸了，服务员也很不耐烦。", "label": "negative"},
        {"id": "2", "text": "Le cafe\u0301 est froid 👎 et le pain est dur.", "label": "negative"},
    )

    def test_it_reads_one_text_and_gives_one_class(self):
        assert self.task.reads.text == ("text",)
        assert self.task.head == "class"
        with pytest.raises(BertkitError) as caught:
            make_task({"name": "sentiment", "kind": "labels"})
        assert caught.value.message == "task.kind: unknown value 'labels'"
        assert caught.value.hint == "did you mean 'class'? one of: class"
