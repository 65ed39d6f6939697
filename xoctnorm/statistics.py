"""Statistics of a volume, read a block of planes at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, pairwise
from operator import itemgetter
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from xoctnorm.errors import listed
from xoctnorm.kernels.backend import parts_of, side_by_side
from xoctnorm.kernels.digest import MODULUS
from xoctnorm.kernels.masks import MeanProjection, SectionMeans
from xoctnorm.kernels.order_statistics import spread
from xoctnorm.kernels.section_images import SectionImages

Item = TypeVar("Item")

_SAMPLED_STEP = 128
_MOST_SAMPLED = 2**22

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
        Evenly spread values of every plane, where they were asked for: one of 128 at most, and some millions in all, so
        that they are small.
    section_images
        Mean projection of every section, where it was asked for.
    """

    mean: NDArray[np.floating]
    minimum: float
    maximum: float
    overflowing: tuple[int, ...]
    digest: int
    samples: tuple[NDArray[np.generic], ...] = ()
    section_images: SectionImages | None = None

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


def survey(
    blocks: Iterable[NDArray[np.generic]],
    n_planes: int,
    start: int,
    section_index: NDArray[np.int64] | None = None,
    outside: NDArray[np.bool_] | None = None,
    *,
    sampled: bool = False,
) -> Survey:
    """Read a volume once, some planes `(z, y, x)` at a time.

    `start` is the index of its first voxel among all that are digested together. With the section of every plane, the
    mean projections of the sections are taken in the same read; they have no data where `outside` is True. With
    `sampled`, some values are kept. Strips of rows are looked at side by side in threads, each plane after plane:
    neither threads nor blocks change a bit.
    """
    of_strips: list[StripSurvey] = []
    samples: list[NDArray[np.generic]] = []
    first = 0
    images = None if section_index is None else SectionImages(int(section_index.max()) + 1)
    for block in blocks:
        if not of_strips:
            shape, step = block.shape[1:], sampled_step(n_planes * block[0].size)
            of_strips = [StripSurvey(rows, shape, block.dtype, section_index) for rows in parts_of(block[0])]
        add = partial(StripSurvey.add_rows_of, block=block, first=first, start=start)
        for _ in side_by_side(add, of_strips, block, block.shape[1:]):
            pass
        if sampled:
            samples += [spread(plane, step, number).copy() for number, plane in enumerate(block, first)]
        if images is not None:
            images.extend(whole_images([strip.sections.taken() for strip in of_strips], outside))
        first += len(block)
        del add, block  # before the next is read
    found = [of_strips.pop(0).found() for _ in range(len(of_strips))]  # sums go as means come
    return put_together(found, samples, images, outside)


def sampled_step(n_voxels: int) -> int:
    """One of how many voxels of a volume is kept as a sample."""
    return max(_SAMPLED_STEP, n_voxels // _MOST_SAMPLED)


def put_together(
    of_strips: Sequence[OfStrip],
    samples: Sequence[NDArray[np.generic]],
    images: SectionImages | None,
    outside: NDArray[np.bool_] | None,
) -> Survey:
    """The survey of a volume of which all strips were looked at, and images of all sections but the last are known."""
    ranges = np.array([strip.ranges for strip in of_strips])  # (strip, plane, 2)
    low, high = np.fmin.reduce(ranges[..., 0], axis=0), np.fmax.reduce(ranges[..., 1], axis=0)
    overflowing = [plane for plane, ends in enumerate(zip(low, high, strict=True)) if _overflows(*ends)]
    lowest, highest = float(np.fmin.reduce(low)), float(np.fmax.reduce(high))
    digest = sum(strip.digest for strip in of_strips) % MODULUS
    if overflowing:  # such a volume is refused; its means may not exist
        return Survey(np.empty((0, 0)), lowest, highest, tuple(overflowing), digest)
    if images is not None:
        images.extend(whole_images([strip.images for strip in of_strips], outside))
    mean = np.concatenate([strip.mean for strip in of_strips])
    return Survey(mean, lowest, highest, (), digest, tuple(samples), images)


def whole_images(
    of_strips: Sequence[Sequence[NDArray[np.float32]]], outside: NDArray[np.bool_] | None
) -> Iterator[NDArray[np.float32]]:
    """Images of sections, of which every strip of rows has its part."""
    for parts in zip(*of_strips, strict=True):
        image = np.concatenate(parts)
        if outside is not None:
            image[outside] = np.nan
        yield image


def _overflows(least: float, most: float) -> bool:
    return abs(least) > _FLOAT32_MAX or abs(most) > _FLOAT32_MAX


class OfStrip(NamedTuple):
    """What is known of some rows when all planes were looked at.

    Attributes
    ----------
    mean
        Mean projection.
    images
        Mean projections of sections that were not taken yet.
    ranges
        The least and the largest value of each plane.
    digest
        Sum of the words of all voxels.
    """

    mean: NDArray[np.floating]
    images: list[NDArray[np.float32]]
    ranges: list[list[float]]
    digest: int


class StripSurvey:
    """Finds out about some rows of all planes."""

    def __init__(
        self, rows: slice, shape: tuple[int, int], dtype: np.dtype[np.generic], section_index: NDArray[np.int64] | None
    ) -> None:
        self._rows, self._shape, self._section_index = rows, shape, section_index
        self._projection, self.sections = MeanProjection(dtype), SectionMeans()
        self._ranges: list[list[float]] = []
        self._digest = 0

    def add_rows_of(self, block: NDArray[np.generic], first: int, start: int) -> None:
        """Look at these rows of planes from number `first` on."""
        self.add(block[:, self._rows], first, start)

    def add(self, strip_of_planes: NDArray[np.generic], first: int, start: int) -> None:
        """Look at some planes, of which only these rows are given."""
        (n_y, n_x), n, index = self._shape, len(strip_of_planes), self._section_index
        changes = () if index is None else np.flatnonzero(np.diff(index[first : first + n])) + 1
        for at, stop in pairwise((0, *changes, n)):
            planes = strip_of_planes[at:stop]
            place = start + ((first + int(at)) * n_y + self._rows.start) * n_x
            with np.errstate(invalid="ignore", over="ignore"):  # infinity: such a volume is refused
                of_section = None if index is None else self.sections.sums(int(index[first + at]), planes[0])
                ends, words = self._projection.add(planes, of_section, place, n_y * n_x)
            self._ranges += ends.tolist()
            self._digest += words

    def found(self) -> OfStrip:
        """What is known when all planes were looked at."""
        with np.errstate(invalid="ignore", over="ignore"):
            images = [] if self._section_index is None else self.sections.means()
            return OfStrip(self._projection.mean(), images, self._ranges, self._digest % MODULUS)


def by_section(of_planes: Iterable[Item], index: NDArray[np.int64]) -> Iterator[Iterator[Item]]:
    """What belongs to the planes of one section after the other, `index` being the section of every plane."""
    for _, group in groupby(zip(index, of_planes, strict=True), key=itemgetter(0)):
        yield (item for _, item in group)
