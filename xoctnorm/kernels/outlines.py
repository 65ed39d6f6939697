"""The darkest class of an image that touches the border of the imaged field: agarose around tissue.

Classes are looked for on log intensity, where a gain moves them and does not stretch them. All levels
and widths here are in that unit. Agarose that is brighter than tissue is the darkest class too: then levels
are negated, see `Scale`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from dataclasses import field as filled

import numpy as np
import scipy
from numpy.typing import NDArray

from xoctnorm.kernels.levels import Bool, Image, Scale, average, connected, imaged_field, noise_of, rim
from xoctnorm.kernels.modes import darkest_mode, flank, tissue_mode
from xoctnorm.kernels.order_statistics import median
from xoctnorm.shelf import Shelf
from xoctnorm.threads import in_threads

WIDTH = 4.0  # a mode ends so many standard deviations above its centre
FEWEST_PIXELS = 100
_NOISE = 0.08  # smoothing goes on until the noise is below
REACH = 20.0  # pixels over which agarose may change its level
_FLOODS = 20
_LESS = 0.6  # of the usual height of tissue above agarose: less is not taken for the same


@dataclass(frozen=True)
class Outlined:
    """One image, and the darkest class that touches the border of its field.

    Attributes
    ----------
    level
        Level of every pixel; NaN outside the field.
    smooth
        The same of the smoothed image.
    field
        Where there is data.
    reached
        Lowest level at which a pixel is connected to the border of the field, or to a seed.
    noise
        Standard deviation of `level` by noise.
    sigma
        Standard deviation of the Gaussian behind `smooth`, in pixels.
    centre, width
        Level of the class and its standard deviation in `smooth`; NaN where none was found.
    scale
        What levels stand for.
    tissue_above
        Levels above agarose of everything that is not near agarose.
    darkest_tissue
        Level of the darkest class of tissue that is not near the dark class; NaN where there is none.
    rise
        How the level of the class rises and falls over the field; taken off `level` and `smooth`.
    reach
        Pixels over which agarose may change its level.
    """

    level: Image
    smooth: Image
    field: Bool
    reached: Image
    noise: float
    sigma: float
    scale: Scale
    centre: float = float("nan")
    width: float = float("nan")
    tissue_above: Image = filled(default_factory=lambda: np.empty(0, np.float32))
    darkest_tissue: float = float("nan")
    rise: Image | float = 0.0
    reach: float = REACH

    @property
    def found(self) -> bool:
        """Whether there is a dark class of its own."""
        return bool(np.isfinite(self.centre))

    @property
    def remains(self) -> float:
        """Standard deviation of `smooth` by noise."""
        return self.noise / max(1.0, float(np.sqrt(4 * np.pi)) * self.sigma)

    @property
    def core(self) -> Bool:
        """Pixels that belong to the class without doubt."""
        return self.field & (self.reached <= self.centre + WIDTH * self.width)

    def classed(self, seeds: Bool | None) -> Outlined:
        """Flood the image from the border and the seeds, and find the class, unless there are too few pixels."""
        from xoctnorm.kernels.compiled_regions import flood

        if self.field.sum() < FEWEST_PIXELS:
            return self
        surface = np.where(self.field, self.smooth, np.nanmax(self.smooth))
        reached = flood(surface, _start(self.field, seeds))
        if seeds is not None and (seeds & self.field).any():
            marked = self.smooth[seeds & self.field]
            centre = median(marked)
            width = max(flank(marked, centre), self.remains / 2)
        else:
            centre, width = darkest_mode(reached[self.field], self.remains)
        return replace(self, reached=reached, centre=centre, width=width)

    def with_tissue(self) -> Outlined:
        """The same, with what is told of tissue."""
        from xoctnorm.kernels.compiled_regions import near

        if not self.found:
            return self
        far = ~near(self.core, max(2.0, 1.5 * self.sigma))
        above = (self.smooth - self.centre)[self.field & far]
        darkest = self.centre + tissue_mode(above, self.remains) if above.size >= FEWEST_PIXELS else float("nan")
        return replace(self, tissue_above=above, darkest_tissue=darkest)


def outlines(
    means: Iterable[Image], scale: Scale, sigma: float, seeds: list[Bool | None], reach: float = REACH
) -> Shelf[Outlined]:
    """Find the darkest class of each mean projection that touches the border of its field, on even ground.

    How the level of the class rises and falls over the field is the median over all images: it comes from
    the instrument, and where one image is misled, others are not.
    """

    def plainly(given: tuple[Image, Bool | None]) -> Outlined:
        return replace(outline(given[0], scale, sigma, given[1]), reach=reach)

    plain: Shelf[Outlined] = Shelf()
    widths = []
    for one in in_threads(plainly, zip(means, seeds, strict=True)):
        plain.append(one)
        widths += [one.width] if one.found else []
    if not widths:
        return plain
    found = ((one, seed) for one, seed in zip(plain, seeds, strict=True) if one.found)
    rises = np.empty((len(widths), *plain[0].field.shape), np.float32)
    for i, of_one in enumerate(in_threads(_rise, found)):
        rises[i] = of_one
    rise = np.median(rises, axis=0, overwrite_input=True)
    del rises
    is_even = np.abs(rise).max() <= np.median(widths) / 2

    def settled(given: tuple[Outlined, Bool | None]) -> Outlined:
        one, seed = given
        if not is_even:
            one = replace(one, level=one.level - rise, smooth=one.smooth - rise, rise=rise).classed(seed)
        return one.with_tissue()

    return Shelf(in_threads(settled, zip(plain, seeds, strict=True)))


def outline(mean: Image, scale: Scale, sigma: float, seeds: Bool | None = None) -> Outlined:
    """Find the darkest class of a mean projection that touches the border of the field.

    Levels are looked at as a flood from the border, and from the seeds, sees them: a pixel has the level
    that has to be passed to reach it. The class is the darkest mode of these levels that holds 1 % of the
    field; its width is that of its dark flank, on which no tissue lies. Seeds, where there are any, give
    centre and width themselves.
    """
    field = imaged_field(mean)
    level = np.where(field, scale.level(np.where(np.isfinite(mean), mean, 0)), np.float32(np.nan))
    noise = noise_of(level)
    smoothings = [sigma, *(s for s in (2.0, 4.0) if s > sigma)]
    for used in smoothings:
        if noise / max(1.0, np.sqrt(4 * np.pi) * used) < _NOISE:
            break
    filled = np.where(np.isfinite(mean) & (mean != 0), mean, 0)
    smooth = np.where(field, scale.level(average(filled, field & (filled != 0), used)), np.float32(np.nan))
    return Outlined(level, smooth, field, smooth, noise, used, scale).classed(seeds)


def _start(field: Bool, seeds: Bool | None) -> Bool:
    """Where agarose is looked for first."""
    return rim(field) if seeds is None else rim(field) | (seeds & field)


def contrast(outlined: Shelf[Outlined]) -> tuple[float, NDArray[np.float64]]:
    """Level of the darkest class of tissue above agarose, the median over all images, and what share each has of it.

    The share is 1 but where all tissue lies much less above the dark class than in other images: there
    the noise floor has eaten up the contrast, or the dark class is no agarose. It is infinite where tissue
    lies much higher: there what is empty, such as a tear, is the dark class. NaN, where no image has both.
    """
    heights, remains = np.array(list(in_threads(lambda one: (_height(one.tissue_above), one.remains), outlined))).T
    heights[heights <= 0] = np.nan
    shares = np.ones(len(outlined))
    if np.isnan(heights).all():
        return float("nan"), shares
    usual = float(np.nanpercentile(heights, 75, method="lower" if np.isfinite(heights).sum() > 2 else "linear"))
    low, high = heights < _LESS * usual, heights > usual / _LESS
    noise = float(np.median(remains))
    rows = np.flatnonzero(np.isfinite(heights) & ~low & ~high).tolist()
    steps = list(in_threads(lambda i: tissue_mode(outlined[i].tissue_above, noise), rows))
    shares[low] = np.maximum(heights[low] / usual, 0.1)
    shares[high] = np.inf
    return max(float(np.median(steps)), noise), shares


def _height(above: Image) -> float:
    """Median of levels above agarose; NaN of few."""
    return median(above) if above.size >= FEWEST_PIXELS else float("nan")


def _rise(given: tuple[Outlined, Bool | None]) -> Image:
    """How the level of agarose rises and falls over the field: followed from the border on, as long as it is slow.

    What is left of the width once the rise is taken off bounds what may still follow, or tissue would.
    """
    one, seeds = given
    above, width, start = one.smooth - np.float32(one.centre), one.width, _start(one.field, seeds)
    rise = np.zeros(above.shape, np.float32)
    size = 0
    for _ in range(_FLOODS):
        core = connected(one.field & (above - rise <= WIDTH * width), start)
        if core.sum() <= 1.002 * size:
            break
        size = core.sum()
        rise = _coarse_average(above, core)
        rest = (above - rise)[core]
        width = min(width, flank(rest, median(rest)))
    return rise - np.float32(median(rise))


def _coarse_average(values: Image, where: Bool) -> Image:
    """Average over `REACH` pixels, and on beyond as far as it goes, on a coarse grid."""
    from xoctnorm.kernels.compiled_images import interpolate

    block = int(REACH) // 4
    n_y, n_x = (-(-n // block) for n in values.shape)
    padding = [(0, n_y * block - values.shape[0]), (0, n_x * block - values.shape[1])]
    weight, total = (
        np.pad(part, padding).reshape(n_y, block, n_x, block).sum(axis=(1, 3), dtype=np.float64)
        for part in (where, np.where(where, values, 0))
    )
    weight, total = (scipy.ndimage.gaussian_filter(part, REACH / block, truncate=8) for part in (weight, total))
    known = weight > 1e-9 * weight.max()
    coarse = np.divide(total, weight, out=np.full_like(total, total.sum() / weight.sum()), where=known)
    y, x = ((np.arange(n) + 0.5) / block - 0.5 for n in values.shape)
    fine = np.empty(values.shape, np.float32)
    interpolate(coarse, y, x, fine)
    return fine
