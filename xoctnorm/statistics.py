"""Statistics of a volume, read a block of planes at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from xoctnorm.errors import listed
from xoctnorm.kernels.digest import MODULUS, digest
from xoctnorm.kernels.masks import MeanProjection, SectionMeans
from xoctnorm.kernels.order_statistics import spread
from xoctnorm.kernels.strips import strips
from xoctnorm.threads import in_threads

Item = TypeVar("Item")

_SAMPLED_STEP = 128

_FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Survey:
    """What the first read of a volume tells.

    Attributes
    ----------
    mean
        Mean projection along z, `(y, x)`.
    minimum, maximum
        Smallest and largest value; NaN without any.
    overflowing
        Planes with infinite values, or values beyond the range of float32.
    digest
        Sum of the words of all voxels, see `xoctnorm.kernels.digest`.
    samples
        Evenly spread values of every plane, one of 128 at most, so that they are small beside a volume of any shape.
    section_means
        Mean projection of every section, `(section, y, x)`, where it was asked for.
    """

    mean: NDArray[np.floating]
    minimum: float
    maximum: float
    overflowing: tuple[int, ...]
    digest: int
    samples: tuple[NDArray[np.generic], ...] = ()
    section_means: NDArray[np.float32] | None = None

    def problems(self, *, decibels: bool = False) -> list[str]:
        """Everything that makes a volume impossible to correct, which may be in decibels."""
        found = []
        if self.overflowing:
            found.append(
                f"the volume has infinite voxels, or voxels beyond the range of float32, on plane "
                f"{listed(self.overflowing)}: replace them by NaN, which means 'no data' "
                "(da.where(abs(da) < 3e38))"
            )
        if np.isnan(self.maximum):
            found.append("the volume is NaN everywhere: there is no data to correct")
        elif self.minimum == self.maximum:
            found.append(
                f"the volume is constant, every voxel is {self.minimum:g}: there is no tissue to correct; "
                "was it read from the right file and variable?"
            )
        elif not self.overflowing and np.float32(self.minimum) == np.float32(self.maximum):
            found.append(
                f"the values of the volume, {self.minimum!r} to {self.maximum!r}, are one and the same in float32, in "
                "which corrections are computed: subtract a constant, or scale the volume, first"
            )
        elif self.maximum <= 0 and not decibels:
            found.append(
                f"the volume has no positive voxel, its values are {self.minimum:g} to {self.maximum:g}: "
                "intensities are expected, with agarose and tissue above 0"
            )
        return found


def survey(blocks: Iterable[NDArray[np.generic]], start: int, section_index: NDArray[np.int64] | None = None) -> Survey:
    """Read a volume once, some planes `(z, y, x)` at a time.

    `start` is the index of its first voxel among all that are digested together. With the section of every plane, the
    mean projections of the sections are taken in the same read. Strips of rows are looked at side by side in threads,
    each plane after plane: neither threads nor blocks change a bit.
    """
    of_strips: list[_StripSurvey] = []
    means: NDArray[np.float32] | None = None
    samples: list[NDArray[np.generic]] = []
    for block in blocks:
        if not of_strips:
            shape = block.shape[1:]
            if section_index is not None:
                means = np.empty((section_index.max() + 1, *shape), np.float32)
            of_strips = [_StripSurvey(rows, shape, block.dtype, section_index, means) for rows in strips(shape)]
        first = len(samples)
        for _ in in_threads(partial(_StripSurvey.add, block=block, first=first, start=start), of_strips):
            pass
        samples += [spread(plane, _SAMPLED_STEP, number).copy() for number, plane in enumerate(block, first)]
    ranges = np.array([strip.ranges for strip in of_strips])  # (strip, plane, 2)
    low, high = np.fmin.reduce(ranges[..., 0], axis=0), np.fmax.reduce(ranges[..., 1], axis=0)
    overflowing = [plane for plane, ends in enumerate(zip(low, high, strict=True)) if _overflows(*ends)]
    lowest, highest = float(np.fmin.reduce(low)), float(np.fmax.reduce(high))
    digest = sum(strip.digest for strip in of_strips) % MODULUS
    if overflowing:  # such a volume is refused; its means may not exist
        return Survey(np.full(shape, np.nan), lowest, highest, tuple(overflowing), digest)
    mean = np.concatenate([strip.projection.mean() for strip in of_strips])
    for strip in of_strips:
        if strip.sections is not None:
            strip.sections.finish()
    return Survey(mean, lowest, highest, (), digest, tuple(samples), means)


def _overflows(least: float, most: float) -> bool:
    return abs(least) > _FLOAT32_MAX or abs(most) > _FLOAT32_MAX


class _StripSurvey:
    """What is found out about some rows of all planes; `ranges` has the least and the largest value of each plane."""

    def __init__(
        self,
        rows: slice,
        shape: tuple[int, int],
        dtype: np.dtype[np.generic],
        section_index: NDArray[np.int64] | None,
        means: NDArray[np.float32] | None,
    ) -> None:
        self._rows, self._shape, self._section_index = rows, shape, section_index
        self.projection = MeanProjection((rows.stop - rows.start, shape[1]), dtype)
        self.sections = None if means is None else SectionMeans(means[:, rows])
        self.ranges: list[tuple[float, float]] = []
        self.digest = 0

    def add(self, block: NDArray[np.generic], first: int, start: int) -> None:
        """Look at the rows of planes from number `first` on."""
        n_y, n_x = self._shape
        for number, plane in enumerate(block, first):
            strip = plane[self._rows]
            with np.errstate(invalid="ignore"):  # infinity: such a volume is refused
                self.ranges.append(self.projection.add(strip))
            self.digest += digest(strip, start + (number * n_y + self._rows.start) * n_x)
            if self._section_index is not None and self.sections is not None and not _overflows(*self.ranges[-1]):
                self.sections.add(strip, int(self._section_index[number]))


def by_section(of_planes: Iterable[Item], index: NDArray[np.int64]) -> Iterator[Iterator[Item]]:
    """What belongs to the planes of one section after the other, `index` being the section of every plane."""
    for _, group in groupby(zip(index, of_planes, strict=True), key=itemgetter(0)):
        yield (item for _, item in group)
