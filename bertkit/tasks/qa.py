"""Which span of a document answers a question? Windows slide over the document; the best span of all windows wins."""

from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
from pydantic import PositiveInt, model_validator

from bertkit.config import knob
from bertkit.data.sources import Columns
from bertkit.data.windows import Inputs, Pair, Window, is_answerable
from bertkit.metrics import squad
from bertkit.tasks.base import Output, Prediction, Row, Scores, Target, Task, softmax

CLS = 0  # position of [CLS], which stands for "no answer in this window"


class QA(Task):
    """Question and document -> a span of the document, sliced by its character offsets.

    Source: Devlin et al. 2019, sections 4.2 (SQuAD 1.1) and 4.3 (SQuAD 2.0).
    """

    name: str = "qa"
    unanswerable: bool = knob(False, "a question may have no answer (SQuAD 2.0)")
    no_answer_threshold: float = knob(
        0.0, "answer nothing when score(no answer) - score(best span) exceeds this; tuned on validation"
    )
    max_answer_length: PositiveInt = knob(30, "tokens of an answer at most; 100 by default in Chinese")
    n_best: PositiveInt = knob(20, "answers kept for each question")
    language: Literal["en", "zh"] = knob("en", "scoring: en: the SQuAD rules; zh: F1 over characters")

    head = "span"
    reads = Columns(text=("question", "context"), answers="answers")
    answer = "answer"
    headline = "f1"
    with_spans = True

    @model_validator(mode="before")
    @classmethod
    def _characters_are_tokens(cls, section: dict[str, object]) -> dict[str, object]:
        # in Chinese every character is a token: of the CMRC 2018 trial answers, a third have more than 30
        return {"max_answer_length": 100, **section} if section.get("language") == "zh" else section

    def inputs(self, row: Row) -> Inputs:
        # white space before a question would shift nothing here, but says nothing either
        return Pair(row["question"].strip(), row["context"], long="second")

    def target(self, row: Row, window: Window) -> Target:
        """Positions of the first and last token of the first answer; [CLS] where the window does not hold all of it."""
        if not row["answers"]:
            return CLS, CLS
        text, begin = row["answers"][0]["text"], row["answers"][0]["start"]
        # white space around an answer is in no token
        begin, end = begin + len(text) - len(text.lstrip()), begin + len(text.rstrip())
        is_context = is_answerable(window.spans)
        # the tokens that cover the answer: the first that ends after its begin, the last that starts before its end
        covering = np.flatnonzero(is_context & (window.spans[:, 1] > begin) & (window.spans[:, 0] < end))
        if not len(covering):
            return CLS, CLS
        first, last = int(covering[0]), int(covering[-1])
        context = np.flatnonzero(is_context)
        is_cut_off = (first == context[0] and window.number > 0 and window.spans[first, 0] > begin) or (
            last == context[-1] and window.number < window.count - 1 and window.spans[last, 1] < end
        )
        return (CLS, CLS) if is_cut_off else (first, last)

    def decode(self, row: Row, outputs: Sequence[Output]) -> Prediction:
        """The best spans over all windows; the same characters found twice count once, with their better score."""
        best: dict[tuple[int, int], float] = {}
        for output in outputs:
            for start, end, score in spans_of(output, self.n_best, self.max_answer_length):
                best[start, end] = max(score, best.get((start, end), -np.inf))
        # ties go to the earlier and shorter span, whatever order the windows come in
        ranked = sorted(best, key=lambda span: (-best[span], *span))[: self.n_best]
        # no window sees the answer only if none does: the surest window decides
        null_score = min(float(start[CLS]) + float(end[CLS]) for start, end in (output.logits for output in outputs))
        scores = [best[span] for span in ranked]
        n_best = [{"answer": row["context"][start:end], "start": start, "end": end} for start, end in ranked]
        if self.unanswerable or not ranked:
            scores.append(null_score)
            n_best.append({"answer": "", "start": None, "end": None})
        for entry, share in zip(n_best, softmax(np.array(scores)).tolist(), strict=True):
            entry["probability"] = share
        # without any span, no threshold may answer; JSON has no infinity
        gap = null_score - scores[0] if ranked else float(np.finfo(np.float32).max)
        n_best.sort(key=lambda entry: -entry["probability"])
        return self._answered(n_best, gap)

    def _answered(self, n_best: list[dict[str, object]], gap: float) -> Prediction:
        """The answer among the best ones; `gap` is the score of no answer above that of the best span."""
        best = next((entry for entry in n_best if entry["start"] is not None), None)
        nothing = next((entry for entry in n_best if entry["start"] is None), None)
        if not self.unanswerable:
            return {**(best or nothing), "n_best": n_best}
        chosen = nothing if best is None or gap > self.no_answer_threshold else best
        return {**chosen, "no_answer_score": gap, "best_span": best["answer"] if best else "", "n_best": n_best}

    def settled(self, predictions: Sequence[Prediction]) -> Sequence[Prediction]:
        if not self.unanswerable:
            return predictions
        return [self._answered(prediction["n_best"], prediction["no_answer_score"]) for prediction in predictions]

    def score(self, predictions: Sequence[Prediction], rows: Sequence[Row]) -> Scores:
        golds = [[answer["text"] for answer in row["answers"]] for row in rows]
        if not self.unanswerable:
            return squad.squad([prediction["answer"] for prediction in predictions], golds, self.language)
        spans = [prediction["best_span"] for prediction in predictions]
        scores = [prediction["no_answer_score"] for prediction in predictions]
        return squad.squad_v2(spans, scores, golds, self.language, threshold=self.no_answer_threshold)

    def tuned(self, predictions: Sequence[Prediction], rows: Sequence[Row]) -> Self:
        """The no-answer threshold with the best F1 on these rows (as the SQuAD 2.0 script searches it)."""
        if not self.unanswerable:
            return self
        threshold = self.score(predictions, rows)["best_f1_threshold"]
        return self if threshold is None else self.model_copy(update={"no_answer_threshold": threshold})

    def right_answer(self, row: Row) -> Prediction:
        return {"answer": "", "no_answer_score": 0.0, "best_span": ""}

    def as_if_right(self, row: Row, prediction: Prediction) -> Row:
        text, start = prediction["answer"], prediction["start"]
        return {**row, "answers": [] if start is None else [{"text": text, "start": start}]}

    def alternatives(self, row: Row) -> Sequence[Row]:
        return [{**row, "answers": [answer]} for answer in row["answers"]] or [row]

    def is_recovered(self, row: Row, prediction: Prediction) -> bool:
        # white space around an answer is in no token
        golds = [answer["text"].strip() for answer in row["answers"]] or [""]
        return prediction["answer"] in golds


def spans_of(output: Output, n_best: int, max_length: int) -> list[tuple[int, int, float]]:
    """The best spans of one window, the best first: every start <= end within `max_length` tokens competes.

    Only context tokens do, so high scores on the question or on padding cannot crowd an answer out. Of each span come
    its characters, from `start` up to `end`, and its score (start logit + end logit).
    """
    start_logits, end_logits = output.logits
    context = np.flatnonzero(is_answerable(output.window.spans))
    if not len(context):
        return []
    starts, ends, spans = start_logits[context], end_logits[context], output.window.spans[context]
    # (P, L): span from position p over l + 1 tokens; short of the window's end, -inf
    padded = np.concatenate([ends, np.full(max_length - 1, -np.inf, ends.dtype)])
    scores = (starts[:, None] + np.lib.stride_tricks.sliding_window_view(padded, max_length)).ravel()
    wanted = n_best
    while True:
        # all that tie with the last one are kept: a partition would choose among them by chance
        least = -np.inf if wanted >= len(scores) else np.partition(scores, -wanted)[-wanted]
        kept = np.flatnonzero((scores >= least) & np.isfinite(scores))
        first, length = np.divmod(kept, max_length)
        begin, end = spans[first, 0], spans[first + length, 1]
        # the pieces of one character have one span, so several positions can stand for the same characters
        best: dict[tuple[int, int], float] = {}
        for index in np.lexsort((end, begin, -scores[kept])):  # ranked as in `decode`
            best.setdefault((int(begin[index]), int(end[index])), float(scores[kept[index]]))
            if len(best) == n_best:
                break
        if len(best) == n_best or wanted >= len(scores):
            return [(*span, score) for span, score in best.items()]
        wanted *= 4
