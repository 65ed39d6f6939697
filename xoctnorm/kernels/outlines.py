"""The darkest class of an image that touches the border of the imaged field: agarose around tissue.

Classes are looked for on log intensity, where a gain moves them and does not stretch them. All levels
and widths here are in that unit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Bool = NDArray[np.bool_]
Image = NDArray[np.float32]

_WIDTH = 4.0  # a mode ends so many standard deviations above its centre
_LEAST_SHARE = 0.01  # of the field, for a class
_FEWEST_PIXELS = 100
_NOISE = 0.08  # smoothing goes on until the noise is below
_REACH = 20.0  # pixels over which agarose may change its level
_FLOODS = 20
_BLUR = 0.15  # spread by pixels that hold both classes, in contrasts
_LESS = 0.6  # of the usual height of tissue above agarose: less is not taken for the same
_TEXTURE = 0.1  # spread of the darkest tissue by its texture
_MOST_EVIDENCE = 20.0
_SWEEPS = 10
_SPECK = 25  # pixels without data that make no border
_SQUARE = np.ones((3, 3), bool)
_NEIGHBOURS = np.array([[0.7, 1, 0.7], [1, 0, 1], [0.7, 1, 0.7]], np.float32)


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
    rise
        How the level of the class rises and falls over the field; taken off `level` and `smooth`.
    """

    level: Image
    smooth: Image
    field: Bool
    reached: Image
    noise: float
    sigma: float
    centre: float = float("nan")
    width: float = float("nan")
    rise: Image | float = 0.0

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
        return self.field & (self.reached <= self.centre + _WIDTH * self.width)


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


def outline(mean: Image, scale: Scale, sigma: float, seeds: Bool | None = None) -> Outlined:
    """Find the darkest class of a mean projection that touches the border of the field.

    Levels are looked at as a flood from the border, and from the seeds, sees them: a pixel has the level
    that has to be passed to reach it. The class is the darkest mode of these levels that holds 1 % of the
    field; its width is that of its dark flank, on which no tissue lies. Seeds, where there are any, give
    centre and width themselves.
    """
    from skimage.morphology import reconstruction

    field = imaged_field(mean)
    level = np.where(field, scale.level(np.where(np.isfinite(mean), mean, 0)), np.float32(np.nan))
    noise = log_noise(level)
    smoothings = [sigma, *(s for s in (2.0, 4.0) if s > sigma)]
    remains = noise
    for used in smoothings:
        remains = noise / max(1.0, np.sqrt(4 * np.pi) * used)
        if remains < _NOISE:
            break
    filled = np.where(np.isfinite(mean) & (mean != 0), mean, 0)
    smooth = np.where(field, scale.level(_average(filled, field & (filled != 0), used)), np.float32(np.nan))
    start = rim(field)
    if seeds is not None:
        start = start | (seeds & field)
    if field.sum() < _FEWEST_PIXELS:
        return Outlined(level, smooth, field, smooth, noise, used)
    surface = np.where(field, smooth, np.nanmax(smooth))
    reached = reconstruction(np.where(start, surface, surface.max()), surface, method="erosion").astype(np.float32)
    found = Outlined(level, smooth, field, reached, noise, used)
    values = reached[field]
    if seeds is not None and (seeds & field).any():
        marked = smooth[seeds & field]
        centre = float(np.median(marked))
        width = max(_flank(marked, centre), remains / 2)
    else:
        centre, width = _darkest_mode(values, remains)
    if not np.isfinite(centre):
        return found
    rise = _rise(smooth - np.float32(centre), field, start, _WIDTH * width)
    uneven = bool(np.abs(rise).max() > width / 2)
    if uneven:
        level, smooth = level - rise, smooth - rise
        surface = np.where(field, smooth, np.nanmax(smooth))
        reached = reconstruction(np.where(start, surface, surface.max()), surface, method="erosion").astype(np.float32)
        if seeds is None or not (seeds & field).any():
            centre, width = _darkest_mode(reached[field], remains)
    return Outlined(level, smooth, field, reached, noise, used, centre, width, rise if uneven else 0.0)


def contrast(outlined: list[Outlined]) -> tuple[float, NDArray[np.float64]]:
    """Level of the darkest class of tissue above agarose, over all images, and the share that every image has of it.

    The share is 1 but where all tissue lies much less above the dark class than in other images: there
    the noise floor has eaten up the contrast, or the dark class is no agarose. NaN, where no image has both.
    """
    above = [_tissue_above(one) for one in outlined]
    heights = np.array([np.median(values) if values.size >= _FEWEST_PIXELS else np.nan for values in above])
    shares = np.ones(len(outlined))
    if np.isnan(heights).all():
        return float("nan"), shares
    usual = float(np.nanpercentile(heights, 75))
    low = heights < _LESS * usual
    shares[low] = np.maximum(heights[low] / usual, 0.1)
    values = np.concatenate([part for part, height in zip(above, heights, strict=True) if height >= _LESS * usual])
    noise = float(np.median([one.remains for one in outlined]))
    low_end, high_end = np.percentile(values, [1, 99])
    return max(_tissue_mode(values, max((high_end - low_end) / 40, noise)), noise), shares


def _tissue_above(one: Outlined) -> Image:
    """Levels above agarose of everything that is not near agarose."""
    if not one.found:
        return np.empty(0, np.float32)
    far = ndimage.distance_transform_edt(~one.core) > max(2.0, 1.5 * one.sigma)
    above: Image = (one.smooth - one.centre)[one.field & far]
    return above


def region(one: Outlined, centre: float, step: float, extra: Bool | None = None) -> Bool:
    """Agarose of an image: nearer to the level of agarose than to that of the darkest tissue, `step` above it.

    A pixel is weighed together with its neighbours (mean field of an Ising model), so that the outline is
    as sharp as the noise allows. The level of agarose may change slowly over the image. What is not
    connected to agarose that is beyond doubt is tissue.
    """
    width = one.width if np.isfinite(one.width) else step / 8
    core = one.field & (one.reached <= centre + min(_WIDTH * width, step / 2))
    if not core.any():
        return core
    evidence = weigh(one.level, local_level(one, core), step, max(one.noise, width * 3.5 * one.sigma))
    mask = settle(np.where(one.field, evidence, 0), one.field)
    parts, _ = ndimage.label(mask)
    sure = np.unique(parts[core & mask])
    mask = np.isin(parts, sure[sure > 0])
    return mask if extra is None else mask | (extra & one.field)


def local_level(one: Outlined, core: Bool) -> Image:
    """Level of agarose at every pixel, from the core around it."""
    inner = ndimage.binary_erosion(core, iterations=2, border_value=1)
    used = inner if inner.sum() >= _FEWEST_PIXELS else core
    return _average(np.where(used, one.smooth, 0), used, _REACH, float(np.median(one.smooth[used])))


def weigh(level: Image, agarose: Image | float, step: float, noise: float) -> Image:
    """Log likelihood ratio of tissue, `step` above agarose, against agarose, within ±20."""
    dark = noise**2 + (_BLUR * step) ** 2
    bright = dark + min(_TEXTURE, 0.35 * step) ** 2
    above = level - agarose
    evidence = above * np.abs(above) / (2 * dark) - np.minimum(above - step, 0) ** 2 / (2 * bright)
    evidence -= np.float32(np.log(bright / dark) / 2)
    clipped: Image = np.clip(evidence, -_MOST_EVIDENCE, _MOST_EVIDENCE).astype(np.float32)
    return clipped


def settle(evidence: Image, field: Bool) -> Bool:
    """Agarose by evidence and by neighbours that agree."""
    belief = np.tanh(evidence / 2)
    for _ in range(_SWEEPS):
        around = ndimage.convolve(np.where(field, belief, 0), _NEIGHBOURS, mode="nearest")
        belief = np.tanh((evidence + around) / 2)
    return field & (belief < 0)


def _rise(above: Image, field: Bool, start: Bool, most: float) -> Image:
    """How the level of agarose rises and falls over the field: followed from the border on, as long as it is slow."""
    rise = np.zeros(above.shape, np.float32)
    size = 0
    for _ in range(_FLOODS):
        parts, _ = ndimage.label(field & (above - rise <= most))
        begun = np.unique(parts[start])
        core = np.isin(parts, begun[begun > 0])
        if core.sum() <= 1.002 * size:
            break
        size = core.sum()
        rise = _coarse_average(above, core)
    return rise


def _coarse_average(values: Image, where: Bool) -> Image:
    """Average over `_REACH` pixels, and on beyond as far as it goes, on a coarse grid."""
    block = int(_REACH) // 4
    n_y, n_x = (-(-n // block) for n in values.shape)
    padding = [(0, n_y * block - values.shape[0]), (0, n_x * block - values.shape[1])]
    weight, total = (
        np.pad(part, padding).reshape(n_y, block, n_x, block).sum(axis=(1, 3), dtype=np.float64)
        for part in (where, np.where(where, values, 0))
    )
    weight, total = (ndimage.gaussian_filter(part, _REACH / block, truncate=8) for part in (weight, total))
    known = weight > 1e-9 * weight.max()
    coarse = np.divide(total, weight, out=np.full_like(total, total.sum() / weight.sum()), where=known)
    y, x = ((np.arange(n) + 0.5) / block - 0.5 for n in values.shape)
    grid = np.meshgrid(y, x, indexing="ij")
    fine: Image = ndimage.map_coordinates(coarse, grid, order=1, mode="nearest").astype(np.float32)
    return fine


def _average(values: NDArray[np.floating], where: Bool, sigma: float, far: float | None = None) -> Image:
    """Gaussian average of the values at `where`; beyond their reach, `far`."""
    weight = ndimage.gaussian_filter(where.astype(np.float32), sigma)
    total = ndimage.gaussian_filter(np.where(where, values, 0).astype(np.float32), sigma)
    if far is not None:
        weight, total = weight + np.float32(1e-3), total + np.float32(1e-3 * far)
    averaged: Image = (total / np.maximum(weight, np.float32(1e-12))).astype(np.float32)
    return averaged


def log_noise(level: Image) -> float:
    """Standard deviation by noise: of the second mixed difference, in which slopes and edges along y or x vanish."""
    mixed = (level[:-1, :-1] + level[1:, 1:] - level[1:, :-1] - level[:-1, 1:]) / 2
    mixed = mixed[np.isfinite(mixed)]
    return 1.4826 * float(np.median(np.abs(mixed - np.median(mixed)))) if mixed.size else 0.0


def _flank(values: Image, centre: float) -> float:
    """Standard deviation of the values up to the centre."""
    below = values[values <= centre].astype(np.float64)
    return float(np.sqrt(np.mean((below - centre) ** 2))) if below.size else 0.0


def _density(values: Image, bandwidth: float) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Centres of bins, counts, and smoothed counts."""
    low, high = float(values.min()), float(values.max())
    n_bins = int(np.clip((high - low) / bandwidth * 4, 16, 4096))
    counts, edges = np.histogram(values, n_bins, range=(low, high) if high > low else (low, low + 1))
    width = edges[1] - edges[0]
    density = ndimage.gaussian_filter1d(counts.astype(float), bandwidth / width, mode="constant")
    return (edges[1:] + edges[:-1]) / 2, counts, density


def _darkest_mode(values: Image, noise: float) -> tuple[float, float]:
    """Centre and width of the darkest mode that holds 1 % of the values; NaN without any."""
    span = float(values.max() - values.min())
    x, counts, density = _density(values, max(noise / 2, span / 200, 1e-6))
    total, last = np.cumsum(counts), len(x) - 1
    for i in np.flatnonzero(density > 0):
        if density[i] < density[max(0, i - 2) : i + 3].max() or total[i] < _LEAST_SHARE / 4 * total[-1]:
            continue
        width = max(_flank(values, x[i]), noise / 2, 1e-6)
        end = min(last, int(np.searchsorted(x, x[i] + 3 * width)))
        if end == last or (density[end] <= 0.6 * density[i] and total[end] >= _LEAST_SHARE * total[-1]):
            return float(x[i]), width
    return float("nan"), float("nan")


def _tissue_mode(values: Image, bandwidth: float) -> float:
    """Centre of the darkest mode that holds 4 % of the values, else their lower quartile."""
    x, counts, density = _density(values, bandwidth)
    share, last = np.cumsum(counts) / counts.sum(), len(x) - 1
    reach = max(1, round(2 * bandwidth / (x[1] - x[0])))
    for i in np.flatnonzero(density > 0):
        before, after = max(0, i - 2 * reach), min(last, i + 2 * reach)
        highest = density[i] >= density[max(0, i - 2) : i + 3].max()
        apart = density[before] <= 0.9 * density[i] and density[after] <= 0.97 * density[i]
        if highest and apart and share[after] - share[before] >= 0.04:
            return float(x[i])
    return float(np.percentile(values, 25))
