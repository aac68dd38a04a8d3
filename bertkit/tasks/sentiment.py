"""Is a text positive or negative? Two or more classes; long texts are read in windows and averaged."""

from typing import Literal

from bertkit.tasks.classification import Classification


class Sentiment(Classification):
    """One text -> class."""

    name: str = "sentiment"
    pair: Literal[False] = False
    kind: Literal["class"] = "class"
