"""Intensities as levels, on which a gain moves classes and does not stretch them; where there are any."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Bool = NDArray[np.bool_]
Image = NDArray[np.float32]

_SPECK = 25  # pixels without data that make no border
_SQUARE = np.ones((3, 3), bool)


@dataclass(frozen=True)
class Scale:
    """How intensities become the unit of levels: their log, or, where they are not positive, their share of a span.

    Attributes
    ----------
    least
        Smallest intensity of which a log is taken.
    span
        Intensities that make one unit, for intensities that are not positive; 0 takes the log.
    """

    least: float
    span: float = 0.0

    @classmethod
    def of(cls, means: Image) -> Scale:
        """Choose the scale for mean projections."""
        values = means[np.isfinite(means) & (means != 0)]
        if not values.size:
            return cls(1.0)
        low, high = np.percentile(values, [0.1, 99.9]).tolist()
        if low <= 0:
            return cls(0.0, max((high - low) / 3, 1e-30))
        return cls(low / 3)

    def level(self, intensity: NDArray[np.floating]) -> Image:
        """Levels of intensities."""
        if self.span:
            return (intensity / np.float32(self.span)).astype(np.float32)
        level: Image = np.log(np.maximum(intensity, np.float32(self.least))).astype(np.float32)
        return level


def imaged_field(mean: NDArray[np.floating]) -> Bool:
    """Where a mean projection has data: neither NaN nor exactly 0; specks without data are part of it."""
    empty = ~np.isfinite(mean) | (mean == 0)
    parts, _ = ndimage.label(empty)
    large: Bool = np.bincount(parts.ravel()) >= _SPECK
    large[0] = False
    return ~large[parts]


def rim(field: Bool) -> Bool:
    """Border of the imaged field: pixels next to what is empty, or to the end of the image."""
    inner: Bool = ndimage.binary_erosion(field, _SQUARE)
    return field & ~inner


def average(values: NDArray[np.floating], where: Bool, sigma: float, far: float | None = None) -> Image:
    """Gaussian average of the values at `where`; beyond their reach, `far`."""
    weight = ndimage.gaussian_filter(where.astype(np.float32), sigma)
    total = ndimage.gaussian_filter(np.where(where, values, 0).astype(np.float32), sigma)
    if far is not None:
        weight, total = weight + np.float32(1e-3), total + np.float32(1e-3 * far)
    averaged: Image = (total / np.maximum(weight, np.float32(1e-12))).astype(np.float32)
    return averaged


def noise_of(level: Image) -> float:
    """Standard deviation by noise: of the second mixed difference, in which slopes and edges along y or x vanish."""
    mixed = (level[:-1, :-1] + level[1:, 1:] - level[1:, :-1] - level[:-1, 1:]) / 2
    mixed = mixed[np.isfinite(mixed)]
    return 1.4826 * float(np.median(np.abs(mixed - np.median(mixed)))) if mixed.size else 0.0
