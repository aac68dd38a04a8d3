"""Does a hypothesis follow from a premise? The same adapter reads stance: article and comment -> agree or disagree."""

from typing import Literal

from bertkit.tasks.classification import Classification


class NLI(Classification):
    """Premise and hypothesis -> class."""

    name: str = "nli"
    pair: Literal[True] = True
    kind: Literal["class"] = "class"

    @property
    def texts(self) -> tuple[str, ...]:
        return ("premise", "hypothesis")
