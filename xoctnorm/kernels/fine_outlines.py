"""Outlines that were found on a coarse grid, at full resolution: pixels next to them are decided again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.consensus import BY_LEVEL, OWN, Agarose
from xoctnorm.kernels.levels import Bool, Image, Scale, field_without, noise_of
from xoctnorm.kernels.morphology import dilated, eroded
from xoctnorm.kernels.outlines import Outlined
from xoctnorm.kernels.regions import local_level, weigh
from xoctnorm.kernels.section_images import SectionImages, Stepped
from xoctnorm.shelf import Shelf
from xoctnorm.threads import in_threads

Pixels = NDArray[np.int64]

_SWEEPS = 6
_NOISE_ROWS = 64  # pairs of rows that tell the noise of an image


def fine_masks(
    images: SectionImages | list[NDArray[np.floating]],
    outlined: Shelf[Outlined],
    found: Agarose,
    seeds: list[Bool | None],
    factor: int,
    least: float,
) -> Bool:
    """Masks at full resolution, `(image, y, x)`, from those of blocks of `factor` x `factor` pixels.

    Pixels of blocks next to an outline are decided again, where the levels of agarose and tissue are known; no part
    with fewer than `least` pixels comes about. `SectionImages` are lost: their masks take their place in memory.
    """

    def of_image(i: int) -> Bool:
        mean = images.stepped(i) if isinstance(images, SectionImages) else _Whole(images[i])
        field, coarse, seed = field_without(mean.empty()), found.masks[i], seeds[i]
        if found.origin[i] in (OWN, BY_LEVEL) and coarse.any():
            agarose = _Levels(outlined[i], coarse, found.centre[i], found.steps[i], factor, field.shape)
            mask = _decided_again(mean, agarose, least)
            mask = mask if seed is None else mask | seed
        else:
            mask = enlarged(coarse, factor, field.shape)
        return mask & field

    if isinstance(images, SectionImages):
        masks = images.place_of_masks()
    else:
        masks = np.empty((len(images), *images[0].shape), bool)
    for i, mask in enumerate(in_threads(of_image, range(len(images)))):
        masks[i] = mask
    return masks


def enlarged(values: NDArray[np.bool_], factor: int, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Every value for all pixels of its block."""
    return values.repeat(factor, axis=0)[: shape[0]].repeat(factor, axis=1)[:, : shape[1]]


class _Whole(NamedTuple):
    """An image whose pixels are asked for as those of a `Stepped` one."""

    image: NDArray[np.floating]

    def pixels(self, key: Any) -> Image:
        """Values of some pixels."""
        values: Image = self.image[key].astype(np.float32, copy=False)
        return values

    def empty(self) -> Bool:
        """Where there is no data."""
        is_empty: Bool = ~np.isfinite(self.image) | (self.image == 0)
        return is_empty


@dataclass(frozen=True)
class _Levels:
    """What is known of an image: its agarose on the coarse grid, the level of that, and of tissue, `step` above it."""

    one: Outlined
    coarse: Bool
    centre: float
    step: float
    factor: int
    shape: tuple[int, int]

    def beside(self) -> Bool:
        """Blocks next to the outline."""
        inner = eroded(self.coarse)
        beside: Bool = dilated(self.coarse) & ~inner & self.one.field
        return beside

    def evidence(self, mean: Stepped | _Whole, y: Pixels, x: Pixels) -> Image:
        """Log likelihood ratio of tissue for some pixels at full resolution."""
        one = self.one
        agarose = local_level(one, self.coarse & (one.smooth >= self.centre - self.step / 2)) + one.rise
        noise = max(_noise(mean, self.shape[0], one.scale), one.width * 3.5 * one.sigma if one.found else self.step / 8)
        values = mean.pixels((y, x))
        has = np.isfinite(values) & (values != 0)
        level = one.scale.level(np.where(has, values, 0))
        weighed = weigh(level, agarose[y // self.factor, x // self.factor], self.step, noise, one.scale)
        return np.where(has, weighed, np.float32(0))


def _decided_again(mean: Stepped | _Whole, levels: _Levels, least: float) -> Bool:
    """The mask, in which pixels next to the outline are weighed one by one together with their neighbours."""
    from xoctnorm.kernels.compiled_regions import believe_blocks, flip_specks, settle_pixels

    n_y, n_x = levels.shape
    belief = np.empty((n_y + 2, n_x + 2), np.float32)
    believe_blocks(levels.coarse, levels.factor, belief)
    y, x = np.divmod(np.flatnonzero(enlarged(levels.beside(), levels.factor, levels.shape)), n_x)
    flat, places = belief.reshape(-1), (y + 1) * (n_x + 2) + x + 1
    settle_pixels(flat, places, levels.evidence(mean, y, x), n_x + 2, _SWEEPS)
    flip_specks(flat, places, n_x + 2, least)
    decided: Bool = belief[1:-1, 1:-1] < 0
    return decided


def _noise(mean: Stepped | _Whole, n_y: int, scale: Scale) -> float:
    """Standard deviation of the level of single pixels by noise, from some pairs of rows."""
    first = np.arange(0, n_y - 1, max(1, n_y // _NOISE_ROWS))
    pairs = mean.pixels(first + np.arange(2)[:, None])
    has = np.isfinite(pairs) & (pairs != 0)
    return noise_of(np.where(has, scale.level(np.where(has, pairs, 0)), np.float32(np.nan)))
