"""One error type for everything the user can mend: what is wrong and where, then what to do."""

import difflib
import re
from collections.abc import Iterable

LONGEST = 200  # characters of a name that may be meant
LISTED = 8  # choices that are worth reading beside a guess


class _Said(Exception):
    """What the command line prints as two lines before it exits."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = one_line(message)
        self.hint = one_line(hint)

    def lines(self) -> list[str]:
        """What a person reads."""
        return [f"error: {self.message}", *([f"hint: {self.hint}"] if self.hint else [])]

    _render_traceback_ = lines  # what a notebook shows; IPython asks for it by this name


class BertkitError(_Said):
    """A mistake the user can mend.

    Args:
        message: what is wrong and where, with the offending value.
        hint: what to do about it, in one sentence; empty when there is nothing to add.
    """

    exit_code = 2


class Interrupted(_Said):
    """The run was asked to stop, and saved a checkpoint first."""

    exit_code = 130


def one_line(text: str) -> str:
    """Fold white space and line breaks, so that an error stays one line whatever the data held.

    A user name and password within an address are left out: errors end in logs.
    """
    return re.sub(r"(\w+://)[^\s/@]+@", r"\1***@", " ".join(str(text).split()))


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """The choice that `name` was probably meant to be, or None when nothing is close."""
    if len(str(name)) > LONGEST:
        return None
    # comparing takes the product of two lengths, and a file of another kind has a column name of megabytes
    lowered = {choice.lower(): choice for choice in choices if len(choice) <= LONGEST}
    found = difflib.get_close_matches(str(name).lower(), lowered, n=1, cutoff=0.5)
    return lowered[found[0]] if found else None


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """A hint of the form `did you mean 'x'? one of: x, y`; a long list gives way to the guess."""
    known = [str(choice) for choice in choices]
    guess = nearest(name, known)
    listing = f"one of: {', '.join(known)}" if known else "there is nothing to choose from"
    if guess is None:
        return listing
    return f"did you mean {guess!r}?" + (f" {listing}" if len(known) <= LISTED else "")
