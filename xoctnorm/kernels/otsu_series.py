"""Otsu's threshold for every image of a series, where images that it cannot divide follow those next to them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.backend import kernels_for
from xoctnorm.kernels.masks import otsu_agarose_mask

_LESS = 0.5  # of the usual contrast of the two classes: less divides noise


def otsu_series(
    images: Iterable[NDArray[np.generic]], sigma: float, masks: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Write the masks of images, and return thresholds, and how much brighter the bright class is than the dark one.

    The last is relative to the dark class. Masks are where the images are.
    """
    thresholds, contrasts = np.empty((2, len(masks)))
    for number, image in enumerate(images):
        values = image.astype(np.float32, copy=False)
        mask, thresholds[number] = otsu_agarose_mask(values, sigma)
        dark, bright = _mean(values, mask), _mean(values, ~mask & (values > 0))
        contrasts[number] = bright / dark - 1 if bright > 0 and dark > 0 else 0.0
        masks[number] = mask
    return thresholds, contrasts


def _mean(values: Any, where: Any) -> float:
    """Mean of the values at `where`; NaN of nothing."""
    kernels = kernels_for(values)
    total, n = kernels.sum_where(kernels.frozen(values), kernels.frozen(where), np.nan)
    return total / n if n else np.nan


def bridged(masks: NDArray[np.bool_], contrasts: NDArray[np.float64]) -> NDArray[np.int64]:
    """Give images of too little contrast, in place, the mask of the nearest image; return which they are."""
    weak = contrasts < _LESS * np.median(contrasts)
    strong = np.flatnonzero(~weak)
    for number in np.flatnonzero(weak).tolist():
        masks[number] = masks[int(strong[np.argmin(np.abs(strong - number))])]
    return np.flatnonzero(weak)
