"""A task whose scoring goes wrong on one process, at one evaluation, as $MISHAP says: `KIND:RANK:EVALUATION`."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from bertkit.tasks.base import Prediction, Row, Scores
from bertkit.tasks.sentiment import Sentiment

seen = 0


class Mishap(Sentiment):
    """Sentiment, with a mishap."""

    name: str = "tests.distributed.mishap"

    def score(self, predictions: Sequence[Prediction], rows: Sequence[Row]) -> Scores:
        global seen
        seen += 1
        kind, rank, evaluation = os.environ.get("MISHAP", "none:0:0").split(":")
        is_due = os.environ["RANK"] == rank and str(seen) == evaluation
        if is_due and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
            if kind == "raise":
                raise ZeroDivisionError("a mishap of one process")
            if kind == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if kind == "kill-parent":
                os.kill(os.getppid(), signal.SIGKILL)
            if kind == "stop":
                os.kill(os.getpid(), signal.SIGTERM)
            if kind == "stop-parent":
                os.kill(os.getppid(), signal.SIGINT)
        return super().score(predictions, rows)
