"""Otsu's threshold for every image of a series, where images that it cannot divide follow those next to them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.backend import to_host
from xoctnorm.kernels.masks import otsu_agarose_mask

_LESS = 0.5  # of the usual contrast of the two classes: less divides noise


def otsu_series(
    images: Iterable[NDArray[np.generic]], sigma: float
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
    """Masks, thresholds, and how much brighter the bright class is than the dark one, relative to the dark one."""
    masks, thresholds, contrasts = [], [], []
    for image in images:
        values = to_host(image).astype(np.float32, copy=False)
        mask, threshold = otsu_agarose_mask(values, sigma)
        bright = ~mask & (values > 0)
        dark = float(values[mask].mean()) if mask.any() else np.nan
        contrasts.append(float(values[bright].mean()) / dark - 1 if bright.any() and dark > 0 else 0.0)
        masks.append(mask)
        thresholds.append(threshold)
    return np.stack(masks), np.array(thresholds), np.array(contrasts)


def bridged(masks: NDArray[np.bool_], contrasts: NDArray[np.float64]) -> NDArray[np.int64]:
    """Give images of too little contrast, in place, the mask of the nearest image; return which they are."""
    weak = contrasts < _LESS * np.median(contrasts)
    strong = np.flatnonzero(~weak)
    for number in np.flatnonzero(weak):
        masks[number] = masks[strong[np.argmin(np.abs(strong - number))]]
    return np.flatnonzero(weak)
