"""Statistics of a volume, read a block of planes at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from xoctnorm.errors import listed
from xoctnorm.kernels.digest import Digest
from xoctnorm.kernels.masks import MeanProjection, SectionMeans
from xoctnorm.kernels.order_statistics import spread

Item = TypeVar("Item")

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
        Evenly spread values of every plane, see `xoctnorm.kernels.order_statistics.spread`.
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


def survey(planes: Iterable[NDArray[np.generic]], start: int, section_index: NDArray[np.int64] | None = None) -> Survey:
    """Read a volume once; `start` is the index of its first voxel among all that are digested together.

    With the section of every plane, the mean projections of the sections are taken in the same read.
    """
    projection: MeanProjection | None = None
    sections: SectionMeans | None = None
    low, high, count = np.inf, -np.inf, Digest(start)
    overflowing, samples = [], []
    for number, plane in enumerate(planes):
        if projection is None:
            projection = MeanProjection(plane.shape, plane.dtype)
            sections = None if section_index is None else SectionMeans(plane.shape)
        count.add(plane)
        samples.append(spread(plane).copy())
        least, most = np.fmin.reduce(plane, axis=None), np.fmax.reduce(plane, axis=None)
        if plane.dtype.kind == "f" and (abs(float(least)) > _FLOAT32_MAX or abs(float(most)) > _FLOAT32_MAX):
            overflowing.append(number)
        else:
            projection.add(plane)
            if sections is not None and section_index is not None:
                sections.add(plane, int(section_index[number]))
        low, high = float(np.fmin(low, least)), float(np.fmax(high, most))
    assert projection is not None
    if low > high:
        low = high = float("nan")
    if overflowing:  # such a volume is refused; its means may not exist
        return Survey(np.full(plane.shape, np.nan), low, high, tuple(overflowing), count.total)
    means = None if sections is None else sections.means()
    return Survey(projection.mean(), low, high, (), count.total, tuple(samples), means)


def by_section(of_planes: Iterable[Item], index: NDArray[np.int64]) -> Iterator[Iterator[Item]]:
    """What belongs to the planes of one section after the other, `index` being the section of every plane."""
    for _, group in groupby(zip(index, of_planes, strict=True), key=itemgetter(0)):
        yield (item for _, item in group)
