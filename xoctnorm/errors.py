"""The error and the warning of this package, and how problems of one call are gathered."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray


class InputError(TypeError, ValueError):
    """Everything that is wrong with one call, in one message.

    One call can have an argument of a wrong type and another of a wrong value, so the error is
    both a `TypeError` and a `ValueError`.

    Attributes
    ----------
    problems
        The problems, a sentence each.
    """

    def __init__(self, call: str, problems: Sequence[str]) -> None:
        self.call = call
        self.problems = tuple(problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n  - ".join([f"{call}: {count}", *problems]))

    def __reduce__(self) -> tuple[type[InputError], tuple[str, tuple[str, ...]]]:
        return type(self), (self.call, self.problems)


class OctnormWarning(UserWarning):
    """Something the user should know of a result; it is written into the record as well."""


def raise_problems(call: str, problems: Sequence[str]) -> None:
    """Raise one `InputError` that lists all problems of a call; do nothing where there are none."""
    if problems:
        raise InputError(call, problems)


@contextmanager
def collecting(problems: list[str]) -> Iterator[None]:
    """Gather the problems of an `InputError` that is raised inside, instead of raising it."""
    try:
        yield
    except InputError as error:
        problems += error.problems


def warn(message: str) -> str:
    """Warn the user, who called from outside this package, and hand the message on to the record."""
    warnings.warn(message, OctnormWarning, stacklevel=_outside())
    return message


def _outside() -> int:
    """Stack level of the first frame outside the package, as `warnings.warn` counts in `warn`."""
    package = __name__.partition(".")[0]
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        frame, level = frame.f_back, level + 1
    return level


def listed(items: Sequence[object] | NDArray[np.generic], most: int = 8) -> str:
    """Write items with commas, the first few and a count of the rest."""
    text = ", ".join(str(item) for item in items[:most])
    return text if len(items) <= most else f"{text}, … ({len(items)} in all)"
