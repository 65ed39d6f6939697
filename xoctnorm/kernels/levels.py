"""Intensities as levels, on which a gain moves classes and does not stretch them; where there are any."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import scipy
from numpy.typing import NDArray

from xoctnorm.kernels.backend import kernels_for, namespace, ndimage_of
from xoctnorm.kernels.morphology import eroded
from xoctnorm.kernels.order_statistics import median, percentile_in_double
from xoctnorm.threads import in_threads

Bool = NDArray[np.bool_]
Image = NDArray[np.float32]

_HARDLY, _CLEARLY = 0.01, 0.05  # shares of the field brighter and darker than its border, for bright agarose
_APART = 0.2  # at least, between classes
_SMOOTH = 2.0  # pixels
_SPECK = 25  # pixels without data that make no border


@dataclass(frozen=True)
class Scale:
    """How intensities become the unit of levels: their log, or, where they are not positive, their share of a span.

    Agarose is the lowest level. It is taken for bright where, in most images, hardly anything in the field is
    brighter than its border, and more is darker.

    Attributes
    ----------
    least
        Smallest intensity of which a log is taken.
    span
        Intensities that make one unit, for intensities that are not positive; 0 takes the log.
    sign
        -1 where agarose is brighter than tissue: levels are negated, so that agarose is the lowest of them.
    """

    least: float
    span: float = 0.0
    sign: int = 1

    @classmethod
    def of(cls, means: Image, seeds: list[Bool | None] | None = None) -> Scale:
        """Choose the scale for mean projections; seeds, where there are any, take the place of the border."""
        values = means[np.isfinite(means) & (means != 0)]
        if not values.size:
            return cls(1.0)
        low, high = (percentile_in_double(values, q) for q in (0.1, 99.9))
        del values
        scale = cls(low / 3) if low > 0 else cls(0.0, max((high - low) / 3, 1e-30))
        starts = [None] * len(means) if seeds is None else seeds
        shares = np.array(list(in_threads(partial(_beside, scale=scale), zip(starts, means, strict=True))))
        above, below = np.nanmedian(shares, axis=0) if np.isfinite(shares).any() else (1.0, 0.0)
        return replace(scale, sign=-1) if above < _HARDLY and below > _CLEARLY else scale

    def level(self, intensity: NDArray[np.floating]) -> Image:
        """Levels of intensities."""
        if self.span:
            return (intensity / np.float32(self.sign * self.span)).astype(np.float32)
        xp = namespace(intensity)
        level: Image = xp.log(xp.maximum(intensity, np.float32(self.least))).astype(np.float32)
        return level if self.sign > 0 else -1 * level

    def middle(self, step: float) -> float:
        """Level above agarose of what holds agarose and tissue, `step` above it, in equal parts: intensities add up."""
        return step / 2 if self.span else step / 2 + self.sign * math.log(math.cosh(step / 2))


def _beside(given: tuple[Bool | None, Image], scale: Scale) -> tuple[float, float]:
    """Shares of the field that are much brighter, and much darker, than seeds or its border; NaN without a field."""
    seeds, mean = given
    field = imaged_field(mean)
    has = np.isfinite(mean) & (mean != 0)
    if not (field & has).any():
        return float("nan"), float("nan")
    smooth = scale.level(average(np.where(has, mean, 0), field & has, _SMOOTH))
    start = rim(field) if seeds is None or not (seeds & field).any() else seeds & field
    beside = (smooth - np.float32(median(smooth[start])))[field]
    noise = noise_of(np.where(field & has, scale.level(np.where(has, mean, 0)), np.float32(np.nan)))
    apart = max(_APART, 3 * noise / (np.sqrt(4 * np.pi) * _SMOOTH))
    return float(np.mean(beside > apart)), float(np.mean(beside < -apart))


def imaged_field(mean: NDArray[np.floating]) -> Bool:
    """Where a mean projection has data: neither NaN nor exactly 0; specks without data are part of it."""
    return field_without(~np.isfinite(mean) | (mean == 0))


def field_without(empty: Bool) -> Bool:
    """The imaged field, given where there is no data."""
    if not empty.any():
        return ~empty
    parts, _ = scipy.ndimage.label(empty)
    large: Bool = np.bincount(parts.ravel()) >= _SPECK
    large[0] = False
    return ~picked(large, parts)


def picked(table: Bool, parts: NDArray[np.signedinteger]) -> Bool:
    """``table[parts]``, which takes NumPy five times as long."""
    found: Bool = namespace(parts).empty(parts.shape, dtype=bool)
    kernels_for(parts, "compiled_images").pick(table, kernels_for(parts).frozen(parts), found.reshape(-1))
    return found


def rim(field: Bool) -> Bool:
    """Border of the imaged field: pixels next to what is empty, or to the end of the image."""
    inner: Bool = eroded(field, corners=True, border=False)
    return field & ~inner


def connected(mask: Bool, start: Bool) -> Bool:
    """Parts of a mask, connected over sides, that hold a pixel of `start`."""
    parts, count = ndimage_of(mask).label(mask)
    begun = namespace(mask).zeros(count + 1, dtype=bool)
    begun[parts[start]] = True
    begun[0] = False
    return picked(begun, parts)


def average(values: NDArray[np.floating], where: Bool, sigma: float, far: float | None = None) -> Image:
    """Gaussian average of the values at `where`; beyond their reach, `far`."""
    from xoctnorm.kernels.compiled_gaussian import gaussian

    whole = bool(where.all())  # then there is nothing to divide by
    weight = np.float32(1) if whole else gaussian(where.astype(np.float32), sigma)
    known = values if whole else np.where(where, values, 0)
    total = gaussian(known.astype(np.float32, copy=False), sigma)
    if far is not None:
        weight, total = weight + np.float32(1e-3), total + np.float32(1e-3 * far)
    averaged: Image = (total / np.maximum(weight, np.float32(1e-12))).astype(np.float32)
    return averaged


def noise_of(level: Image) -> float:
    """Standard deviation by noise: of the second mixed difference, in which slopes and edges along y or x vanish."""
    mixed = (level[:-1, :-1] + level[1:, 1:] - level[1:, :-1] - level[:-1, 1:]) / 2
    has = np.isfinite(mixed)
    mixed = mixed if has.all() else mixed[has]
    return 1.4826 * median(np.abs(mixed - np.float32(median(mixed)))) if mixed.size else 0.0
