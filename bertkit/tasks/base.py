"""What a task is: labels, head, inputs, target, decode and score."""

from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar, NamedTuple, Self

import numpy as np

from bertkit.config import Section, validate
from bertkit.data.sources import Columns
from bertkit.data.windows import Inputs, Window
from bertkit.errors import BertkitError, did_you_mean
from bertkit.findings import Finding
from bertkit.heads import HEADS
from bertkit.named import class_of, module_names

Row = Mapping[str, object]
Prediction = dict[str, object]
Target = tuple[object, ...]
Scores = dict[str, float | None]


class Output(NamedTuple):
    """What the model says of one window, an array for each output of the head.

    Logits are (C,) float32 a window for class heads; (W, C) for the W words that the window owns, in order; (S,) start
    and (S,) end for span heads.
    """

    window: Window
    logits: tuple[np.ndarray, ...]


class Task(Section):
    """A thin adapter: its fields are the `task:` section of a recipe.

    A task never tokenizes, pads, batches, places a tensor, computes a loss or loops.
    """

    name: str
    labels: tuple[str, ...] = ()

    head: ClassVar[str]  # name of the head in `heads.HEADS`
    reads: ClassVar[Columns]  # the columns that it reads
    answer: ClassVar[str]  # key of a prediction that holds the answer
    headline: ClassVar[str]  # the metric that ranks checkpoints: the first that `score` gives
    inventory: ClassVar[tuple[str, ...]] = ()  # labels that the task knows by itself
    with_spans: ClassVar[bool] = False  # whether windows keep character offsets

    @property
    def gold(self) -> str:
        """The row's column that holds what is right."""
        columns = self.reads
        return columns.label or columns.labels or columns.number or columns.tags or columns.answers or ""

    @property
    def thresholds(self) -> Mapping[str, float]:
        """Label -> the probability from which on it is chosen, for labels that are chosen by theirs alone."""
        return {}

    def texts_in(self, row: Row) -> dict[str, str]:
        """What a reader sees of a row, by column; words with spaces between them."""
        return {name: row[name] for name in self.reads.text} | {name: " ".join(row[name]) for name in self.reads.words}

    def labels_of(self, row: Row) -> Sequence[str]:
        """The class names that stand in a row."""
        return ()

    def implied(self, labels: Collection[str]) -> Collection[str]:
        """All classes of a task whose labels the data decide: those that stand there, and what they imply."""
        return labels

    def inputs(self, row: Row) -> Inputs:
        """What is read. The type selects the tokenizer call: str, Pair or Words."""
        raise NotImplementedError

    def target(self, row: Row, window: Window) -> Target:
        """What is right, one value for each target array of the head.

        A value is a number (or an array over classes) for class heads, an array over the window's tokens for token
        heads, a token's position in the window for span heads.
        """
        raise NotImplementedError

    def decode(self, row: Row, outputs: Sequence[Output]) -> Prediction:
        """All windows of a row become one answer, whatever order they come in."""
        raise NotImplementedError

    def score(self, predictions: Sequence[Prediction], rows: Sequence[Row]) -> Scores:
        """How good the predictions are; the first is the headline, None where undefined."""
        raise NotImplementedError

    def describe(self, rows: Sequence[Row], where: str) -> str:
        """What is worth saying of the rows of a split before training, such as how they mark what is right.

        Raises:
            BertkitError: no model could learn from them; `where` names the split.
        """
        return ""

    def breakdowns(self, predictions: Sequence[Prediction], rows: Sequence[Row], where: str) -> Sequence[Finding]:
        """Findings of this task alone; each takes the place of what its head would say under the same title."""
        return ()

    def tuned(self, predictions: Sequence[Prediction], rows: Sequence[Row]) -> Self:
        """A copy with the settings that are chosen on validation predictions, such as a threshold."""
        return self

    def settled(self, predictions: Sequence[Prediction]) -> Sequence[Prediction]:
        """Predictions of a task with other settings, as this one would have made them."""
        return predictions

    def right_answer(self, row: Row) -> Prediction:
        """A prediction that is right, as far as `score` reads one."""
        return {self.answer: row[self.gold]}

    def as_if_right(self, row: Row, prediction: Prediction) -> Row:
        """The row with what was answered in place of what is right."""
        return {**row, self.gold: prediction[self.answer]}

    def alternatives(self, row: Row) -> Sequence[Row]:
        """The row once for each answer that counts as right, for the oracle; `target` then aims at that one."""
        return (row,)

    def is_recovered(self, row: Row, prediction: Prediction) -> bool:
        """Whether a prediction is exactly right, for the oracle round trip."""
        return prediction[self.answer] == row[self.gold]


def oracle(task: Task, window: Window, target: Target) -> Output:
    """The output of a model that knows what is right: the coverage that windows and decoding leave to any model."""
    return Output(window, HEADS[task.head].oracle(target, window, len(task.labels)))


def task_class(name: str) -> type[Task]:
    """The class of a task: `bertkit.tasks.NAME`, or a dotted module of your own.

    Raises:
        BertkitError: there is no such module, or it holds no task, or one that does not say all that a task must.
    """
    found = class_of(name, "task.name", Task)
    owed = ("head", "reads", "answer", "headline", "inputs", "target", "decode", "score")
    unsaid = [member for member in owed if getattr(found, member, None) is getattr(Task, member, None)]
    if missing := [member for member in unsaid if member not in found.model_fields]:
        raise BertkitError(
            f"task.name: {found.__name__} in module {name!r} does not define {', '.join(missing)}",
            hint="bertkit/tasks/base.py says what each gives",
        )
    return found


def make_task(section: Mapping[str, object]) -> Task:
    """The task that a recipe's `task:` section describes."""
    task = validate(task_class(str(section["name"])), section, where="task")
    if task.head not in HEADS:
        message = f"task.name: {type(task).__name__} has the head {task.head!r}, which there is not"
        raise BertkitError(message, hint=did_you_mean(str(task.head), HEADS))
    return task


def task_names() -> list[str]:
    """Names of the built-in tasks."""
    return module_names("bertkit.tasks")


def softmax(logits: np.ndarray) -> np.ndarray:
    """(..., C) probabilities, float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)
