"""Mean projections of sections, held in little memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.coarse import coarse_factor, coarse_plane
from xoctnorm.kernels.order_statistics import spread
from xoctnorm.kernels.strips import strips
from xoctnorm.threads import in_threads

Image = NDArray[np.float32]
Bool = NDArray[np.bool_]

_STEPS = 254
_ENDS = 0.1, 99.9  # percentiles between which the steps lie
_RANGE = 1000  # of steps in the logarithm, at most
_MOSTLY = 0.9  # share of pixels above 0 from which on the logarithm is taken: others are as dark as can be


class Stepped(NamedTuple):
    """An image in steps, indexed as an array is.

    Attributes
    ----------
    code
        Step of every pixel, from 1 on; 0 where there is no data.
    table
        Value of every step.
    """

    code: NDArray[np.uint8]
    table: Image

    def pixels(self, key: Any) -> Image:
        """Values of some pixels; NaN where there is no data."""
        values: Image = self.table[self.code[key]]
        return values

    def empty(self) -> Bool:
        """Where there is no data."""
        without: Bool = ~np.isfinite(self.table) | (self.table == 0)
        is_empty: Bool = without[self.code] if without[1:].any() else self.code == 0
        return is_empty


class SectionImages:
    """So many images `(y, x)` in float32 that come one after the other; NaN where there is no data.

    Large ones, of which outlines are found on their means over blocks, are held in 254 steps: one byte per pixel. What
    lies between the percentiles 0.1 and 99.9 is less than a fiftieth off, mostly less than a hundredth, where speckle
    is off by a tenth; what lies beyond them, or below a thousandth of the largest, is taken for the end.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._blocks = np.empty((0, 0, 0), np.float32)  # the images themselves, where they are small
        self._codes: NDArray[np.uint8] | None = None
        self._tables: list[Image] = []
        self._n = 0

    def append(self, image: Image) -> None:
        """Add the next image."""
        factor = coarse_factor(*image.shape)
        means = coarse_plane(image, factor)
        if not self._n:
            self._make_room(means.shape, image.shape if factor > 1 else None)
        self._blocks[self._n] = means
        if self._codes is not None:
            self._tables.append(_in_steps(image, self._codes[self._n]))
        self._n += 1

    def _make_room(self, blocks: tuple[int, ...], codes: tuple[int, ...] | None) -> None:
        self._blocks = np.empty((self._count, *blocks), np.float32)
        self._codes = None if codes is None else np.empty((self._count, *codes), np.uint8)

    def extend(self, images: Iterable[Image]) -> None:
        """Add images one after the other: those of another series are taken as they are held there."""
        if not isinstance(images, SectionImages):
            for image in images:
                self.append(image)
        elif len(images):
            if not self._n:
                self._make_room(images._blocks.shape[1:], None if images._codes is None else images._codes.shape[1:])
            there = slice(self._n, self._n + len(images))
            self._blocks[there] = images.blocks()
            if self._codes is not None and images._codes is not None:
                self._codes[there] = images._codes[: len(images)]
            self._tables += images._tables
            self._n += len(images)

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, number: int) -> Image:
        """One image; of a large one, its steps."""
        return self._blocks[number] if self._codes is None else self.stepped(number).pixels(...)

    def __iter__(self) -> Iterator[Image]:
        return (self[number] for number in range(len(self)))

    def blocks(self) -> Image:
        """Means over blocks of all images, `(image, y, x)`, of the images as they came; the images where small."""
        return self._blocks[: self._n]

    def stepped(self, number: int) -> Stepped:
        """A large image as it is held."""
        assert self._codes is not None
        return Stepped(self._codes[number], self._tables[number])

    def place_of_masks(self) -> Bool:
        """Memory for a mask of every large image, which is lost when its mask is written there."""
        assert self._codes is not None
        return self._codes[: self._n].view(bool)

    def copy(self) -> SectionImages:
        """The same images in memory of their own."""
        images = SectionImages(self._count)
        images.extend(self)
        return images


def _in_steps(image: Image, code: NDArray[np.uint8]) -> Image:
    """Write the steps of an image, equal in its logarithm, or in itself where it is not above 0; returns the table."""
    from xoctnorm.kernels.compiled import frozen
    from xoctnorm.kernels.compiled_images import to_steps

    some = spread(image)
    some = some[np.isfinite(some) & (some != 0)]
    above = some[some > 0]
    by_log = above.size >= _MOSTLY * max(some.size, 1)
    some = above if by_log else some
    low, high = np.percentile(some, _ENDS) if some.size else (1.0, 1.0)
    low = max(low, high / _RANGE) if by_log else low
    ends = np.log([low, high]) if by_log else np.array([low, high])
    levels = ends[0] + np.arange(_STEPS + 1) * (ends[1] - ends[0]) / _STEPS
    per_step = np.float32(_STEPS / (ends[1] - ends[0]) if ends[1] > ends[0] else 0)

    def write(rows: slice) -> None:
        part = np.ascontiguousarray(image[rows])
        with np.errstate(invalid="ignore", divide="ignore"):  # what has no logarithm, or no data
            scaled = np.log(part) if by_log else part
        in_strip = code[rows].reshape(-1)  # a view
        to_steps(frozen(part), frozen(scaled), np.float32(ends[0]), per_step, np.float32(_STEPS), in_strip)

    for _ in in_threads(write, strips(image.shape)):
        pass
    return np.append(np.nan, np.exp(levels) if by_log else levels).astype(np.float32)
