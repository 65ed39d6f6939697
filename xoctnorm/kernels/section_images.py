"""Mean projections of sections, held in little memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.coarse import coarse_factor, coarse_plane
from xoctnorm.kernels.order_statistics import spread

Image = NDArray[np.float32]

_STEPS = 254
_ENDS = 0.1, 99.9  # percentiles between which the steps lie
_RANGE = 1000  # of steps in the logarithm, at most
_MOSTLY = 0.9  # share of pixels above 0 from which on the logarithm is taken: others are as dark as can be


class SectionImages:
    """Images `(y, x)` in float32 that come one after the other; NaN where there is no data.

    Large ones, of which outlines are found on their means over blocks, are held in 254 steps: one byte per pixel. What
    lies between the percentiles 0.1 and 99.9 is less than a fiftieth off, mostly less than a hundredth, where speckle
    is off by a tenth; what lies beyond them, or below a thousandth of the largest, is taken for the end.
    """

    def __init__(self) -> None:
        self._blocks: list[Image] = []
        self._images: list[Image | _Stepped] = []

    def append(self, image: Image) -> None:
        """Add the next image, which is not copied."""
        factor = coarse_factor(*image.shape)
        if factor > 1:
            self._blocks.append(coarse_plane(image, factor))
        self._images.append(image if factor == 1 else _Stepped(image))

    def extend(self, images: Iterable[Image]) -> None:
        """Add images one after the other: those of another series are taken as they are held there."""
        if isinstance(images, SectionImages):
            self._blocks += images._blocks
            self._images += images._images
            return
        for image in images:
            self.append(image)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, number: int) -> Image:
        """One image; of a large one, its steps."""
        image = self._images[number]
        return image.values() if isinstance(image, _Stepped) else image

    def __iter__(self) -> Iterator[Image]:
        return (self[number] for number in range(len(self)))

    def blocks(self) -> Image:
        """Means over blocks of all images, `(image, y, x)`, of the images as they came; the images where small."""
        return np.stack(self._blocks if self._blocks else list(self))


class _Stepped:
    """An image in steps that are equal in its logarithm, or in itself where it is not above 0."""

    def __init__(self, image: Image) -> None:
        has = np.isfinite(image) & (image != 0)
        some = spread(image)[spread(has)]
        above = some[some > 0]
        by_log = above.size >= _MOSTLY * max(some.size, 1)
        some = above if by_log else some
        low, high = np.percentile(some, _ENDS) if some.size else (1.0, 1.0)
        low = max(low, high / _RANGE) if by_log else low
        ends = np.log([low, high]) if by_log else np.array([low, high])
        levels = ends[0] + np.arange(_STEPS + 1) * (ends[1] - ends[0]) / _STEPS
        self._table = np.append(np.nan, np.exp(levels) if by_log else levels).astype(np.float32)
        per_step = np.float32(_STEPS / (ends[1] - ends[0]) if ends[1] > ends[0] else 0)
        with np.errstate(invalid="ignore", divide="ignore"):  # what has no logarithm, or no data
            steps = ((np.log(image) if by_log else image) - np.float32(ends[0])) * per_step
        steps = np.nan_to_num(steps)
        self._code = np.where(has, np.rint(np.clip(steps, 0, _STEPS)).astype(np.uint8) + np.uint8(1), np.uint8(0))

    def values(self) -> Image:
        """The image; NaN where there is no data."""
        image: Image = self._table[self._code]
        return image
