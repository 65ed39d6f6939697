"""Parts of a plane that stay in the cache while one correction after the other changes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

_STRIP_VOXELS = 2**17


def strips(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices of a few whole rows each, for a plane `(y, x)`."""
    n_y, n_x = shape
    n_rows = max(1, _STRIP_VOXELS // max(n_x, 1))
    for start in range(0, n_y, n_rows):
        yield slice(start, min(start + n_rows, n_y))


def in_place(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """A flat view of a contiguous plane, or part of one, through which it can be changed."""
    if not plane.flags.c_contiguous:
        raise ValueError(f"a plane with strides {plane.strides} cannot be changed in place")
    return plane.reshape(-1)


def single(plane: NDArray[Any]) -> NDArray[np.float32]:
    """A plane in float32 and C order: the plane itself where it is so already."""
    from xoctnorm.kernels.backend import namespace

    return cast(NDArray[np.float32], namespace(plane).ascontiguousarray(plane, dtype=np.float32))
