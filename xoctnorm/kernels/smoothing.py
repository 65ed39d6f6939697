"""Gaussian smoothing of short series: one value per section or per plane."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Series = NDArray[np.float64]

# Below this smoothed presence there is nothing near enough to say what the value should be.
_LEAST_PRESENCE = 1e-6


def smooth(values: Series, sigma: float) -> Series:
    """Smooth by a Gaussian with reflecting edges, cut at 4 sigma; the values themselves at sigma 0."""
    if sigma <= 0:
        return values.copy()
    from scipy.ndimage import gaussian_filter1d

    smoothed: Series = gaussian_filter1d(values, sigma)
    return smoothed


def smooth_where_present(values: Series, position: NDArray[np.integer], sigma: float) -> Series:
    """Smooth positive values at increasing integer positions; others, and gaps, count as missing.

    Smoothed values over smoothed presence; 0 where the smoothed presence is at most 1e-6.
    """
    # A gap wider than the kernel cannot be smoothed across: it need not be stored at its full width.
    widest = 2 * int(4 * sigma + 0.5) + 2
    steps = np.minimum(np.diff(position, prepend=position[:1]), widest)
    grid = np.cumsum(steps)
    metric = np.zeros(int(grid[-1]) + 1)
    metric[grid] = values
    presence = (metric > 0).astype(float)
    weight = smooth(presence, sigma)
    smoothed = np.zeros_like(metric)
    np.divide(smooth(metric * presence, sigma), weight, out=smoothed, where=weight > _LEAST_PRESENCE)
    at_sections: Series = smoothed[grid]
    return at_sections


def factors_to_median(smoothed: Series, min_scale: float, max_scale: float) -> Series:
    """Factors that bring every positive smoothed value to their median; 1 where there is none."""
    known = smoothed > 0
    factors = np.ones_like(smoothed)
    if known.any():
        factors[known] = np.median(smoothed[known]) / smoothed[known]
    return np.clip(factors, min_scale, max_scale)


def profile_gains(means: Series, sigma: float) -> tuple[Series, NDArray[np.float32]]:
    """Smoothed means of planes, and the gains that bring the means to them.

    Missing means are NaN: the others are closed up before they are smoothed; a missing plane has a
    NaN smoothed mean and gain 1. With sigma 0, or fewer than 3 present means, every gain is 1.
    """
    known = ~np.isnan(means)
    smoothed = np.full_like(means, np.nan)
    gains = np.ones(means.shape, np.float32)
    if sigma > 0 and known.sum() >= 3:
        smoothed[known] = smooth(means[known], sigma)
        gains[known] = smoothed[known] / np.maximum(means[known], 1e-6)
    return smoothed, gains
