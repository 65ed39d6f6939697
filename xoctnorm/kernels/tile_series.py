"""Means of the tiles of one set of pixels in the planes that see it: the level of every plane, robustly."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Series = NDArray[np.float64]

TILES = 8  # along y and x; a tile that stands out of its series is left out

_FEWEST_IN_TILE = 12
_OUTLYING = 5.0  # standard errors
_TEXTURE = 0.01  # what a tile may differ by from plane to plane beside noise


@dataclass(frozen=True)
class TileSeries:
    """Means of the tiles of one set in the planes that see it.

    Attributes
    ----------
    plane, slot
        Which they are.
    mean, count
        Of every tile, `(plane, tile)`: NaN where there is no data, and the pixels behind it.
    """

    plane: NDArray[np.int64]
    slot: NDArray[np.int64]
    mean: Series
    count: Series

    @classmethod
    def of(cls, observed: list[tuple[int, int, Series, Series]]) -> TileSeries | None:
        """Of plane, slot, and total and count of every tile; None where there is no data."""
        plane, slot = (np.array(column) for column in ([o[0] for o in observed], [o[1] for o in observed]))
        total, count = (np.array([o[i] for o in observed]) for i in (2, 3))
        usual = np.median(count, axis=0)
        used = usual >= _FEWEST_IN_TILE
        if not used.any():
            used = usual > 0
        if not used.any():
            return None
        total, count, usual = total[:, used], count[:, used], usual[used]
        mean = np.where(count >= usual / 2, total / np.maximum(count, 1), np.nan)
        known = np.isfinite(mean).any(axis=1)
        known &= np.nansum(mean * count, axis=1) > 0
        if not known.any():
            return None
        return cls(plane[known], slot[known], mean[known], np.where(np.isfinite(mean), count, 0)[known])

    @cached_property
    def _shape(self) -> tuple[Series, Series]:
        """Level of every plane and relative level of every tile, by medians."""
        level = np.nansum(self.mean * self.count, axis=1) / self.count.sum(axis=1)
        for _ in range(2):
            tiles = _nanmedian(self.mean / level[:, None], axis=0)
            level = level * _nanmedian(self.mean / level[:, None] / tiles, axis=1)
        return level, tiles

    @cached_property
    def _residual(self) -> Series:
        """What the means are off these, relative to them."""
        level, tiles = self._shape
        with np.errstate(invalid="ignore", divide="ignore"):
            residual: Series = self.mean / (level[:, None] * tiles) - 1
        return residual

    def scatter(self) -> Series:
        """Residuals in units of the standard deviation of one pixel; none where one plane alone sees the set."""
        n_planes = len(self.plane)
        if n_planes < 2:
            return np.zeros(0)
        # The level of every tile was taken from the same planes.
        scaled = self._residual * np.sqrt(self.count * n_planes / (n_planes - 1))
        return scaled[np.isfinite(scaled)]

    def levels(self, variance: float) -> tuple[Series, Series]:
        """Mean of every plane over the whole set, without tiles that stand out; pixels that were used.

        What is left is brought to the whole set by the tiles' own levels, so that leaving out a tile does not
        change the composition. The mean stays linear in intensity, so that a floor can be taken off it.
        """
        n = np.maximum(self.count, 1)
        residual = self._residual
        has = np.isfinite(residual)
        weight = (
            has & (np.abs(np.where(has, residual, np.inf)) < _OUTLYING * np.sqrt(variance / n + _TEXTURE**2))
        ).astype(float)
        few = weight.sum(axis=1) < 0.3 * has.sum(axis=1)
        weight[few] = has[few]
        mean, size = np.where(has, self.mean, 0), np.median(self.count, axis=0)
        level, tiles = self._shape
        for _ in range(3):
            tiles = (weight * self.count * mean).sum(0) / np.maximum(
                (weight * self.count * level[:, None]).sum(0), 1e-300
            )
            tiles = np.where(tiles > 0, tiles, np.median(tiles))
            tiles /= (size * tiles).sum() / size.sum()
            level = (weight * self.count * mean).sum(1) / (weight * self.count * tiles).sum(1)
        return level, (weight * self.count).sum(1)


def _nanmedian(values: Series, axis: int) -> Series:
    """Median of what is known; 1 where nothing is."""
    ordered, count = np.sort(values, axis=axis), np.sum(~np.isnan(values), axis=axis, keepdims=True)  # NaN comes last
    low, high = (np.take_along_axis(ordered, at, axis) for at in (np.maximum(count - 1, 0) // 2, count // 2))
    known = np.isfinite(values).any(axis=axis, keepdims=True)
    median: Series = np.where(known, (low + high) / 2, 1.0).squeeze(axis)
    return median
