"""Levels of a pyramid: planes at half the resolution."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.coarse import block_sums


def halved_planes(planes: NDArray[np.generic]) -> NDArray[np.generic]:
    """Means of 2 x 2 pixels of planes `(…, y, x)`, in their dtype; the last row and column of odd sizes stand alone.

    NaN is left out, and stays where a block has nothing else. Integers are rounded.
    """
    *lead, n_y, n_x = planes.shape
    halved = np.empty((*lead, -(-n_y // 2), -(-n_x // 2)), planes.dtype)
    for place in np.ndindex(*lead):
        plane = planes[place]
        known = plane == plane
        with np.errstate(invalid="ignore"):
            mean = block_sums(np.where(known, plane, 0), 2) / block_sums(known, 2)
        halved[place] = mean if planes.dtype.kind == "f" else np.rint(mean)
    return halved
