"""Steps that change values one by one: several of them happen to a block of values while it is in the cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.backend import kernels_for
from xoctnorm.kernels.strips import in_place

Floats = NDArray[np.float32]

CUT, SUBTRACT, MULTIPLY, DIVIDE, CLIP, INTERPOLATE = range(6)

_NO_KNOTS, _NO_LINES = np.empty(0, np.float32), np.empty((0, 2))
AS_THEY_ARE = (np.dtype(np.float32), np.dtype(np.uint16))  # for other dtypes nothing is compiled


class Step(NamedTuple):
    """One step.

    Attributes
    ----------
    kind
        CUT: clip to a first number and a second, and subtract the first; NaN stays NaN, and all becomes NaN where the
        second is. SUBTRACT: a number, from what is not exactly 0. MULTIPLY, DIVIDE: by a number. CLIP: to 0…1.
        INTERPOLATE: between knots, what is above a first number, a second number of the way.
    numbers
        As the kind needs them.
    knots, lines
        Equally spaced values, and slope and offset from each to the next, `(knot, 2)`.
    """

    kind: int
    numbers: tuple[float, float] = (0.0, 0.0)
    knots: Floats = _NO_KNOTS
    lines: NDArray[np.float64] = _NO_LINES


def take(steps: Sequence[Step], values: NDArray[Any], out: NDArray[Any]) -> None:
    """Change values by all steps into a contiguous float32 array, which may be that of the values.

    One step at most interpolates.
    """
    kernels, loops = kernels_for(out), kernels_for(out, "compiled_steps")
    table = next((step for step in steps if step.kind == INTERPOLATE), Step(INTERPOLATE))
    kinds = np.array([step.kind for step in steps], np.int64)
    numbers = np.array([step.numbers for step in steps], np.float64).reshape(-1, 2)
    flat = kernels.frozen(values if values.dtype in AS_THEY_ARE else values.astype(np.float32))
    loops.take(flat, kinds, numbers, table.knots, table.lines, in_place(out))


def taken_as_it_is(values: NDArray[Any]) -> bool:
    """Whether steps start from an array without a copy of it."""
    return values.dtype in AS_THEY_ARE and values.flags.c_contiguous
