"""How the depth profile varies over the field: tile by tile, smoothed, or in pieces between seams.

For tile `t` of the pixels of class `c` in section `s`, in plane `z` at depth `d` below the cut::

    log(mean − noise floor) = brightness[s, c, t] + plane[z, c] + profile[d, t] + error

The brightness of a tile is free, so a seam that is the same at all depths is none of the profile; what belongs to
planes and classes is free as well. The profile has the mean 0 over depth for every tile, and over tiles at every depth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.class_sums import TILES, ClassSums, TileSums
from xoctnorm.kernels.classes import TISSUES

Series = NDArray[np.float64]
Index = NDArray[np.int64]

LARGEST_GAIN = 1.5  # and its inverse is the least
CENTRES = (np.arange(TILES) + 0.5) / TILES  # of tiles, as shares of the field
_FEWEST_PIXELS = 12
_LEAST_SIGNAL = 0.02  # of a mean, above the floor
_ANATOMY = 0.01  # what the log mean of a tile changes by beside noise
_OUTLYING = 4.0  # robust standard deviations
_ROUNDS = 20
_WIDTH = 1.0  # of the smoothing, in tiles
_DOUBT = 2.0  # error variances of tiles miss anatomy that goes on from section to section: less than this is nothing
_STEADY = 0.02  # how firmly slopes of the smoothing are held at 0, where there is little to tell them
_SEAM_ERRORS = 4.0  # standard errors by which a seam has to stand out
_LEAST_SEAM = 0.02
_MOST_LINES = 512
_WINDOW = 1 / 8  # of the field, on either side of a line that may be a seam
_FEWEST_TILES = 1.5  # on either side of a seam


@dataclass(frozen=True)
class LateralProfile:
    """What the log depth profile of a tile has of its own.

    Attributes
    ----------
    profile, error
        `(depth, tile)`; 0 and infinite where there is nothing to tell it.
    fall, fall_error
        Change of it from the first to the last depth, along a straight line, `(tile,)`.
    """

    profile: Series
    error: Series
    fall: Series
    fall_error: Series

    @property
    def spread(self) -> float:
        """Half of the range of the middle two thirds of the falls of tiles, without what their errors explain."""
        known = np.isfinite(self.fall_error)
        if known.sum() < 4:
            return 0.0
        low, high = np.quantile(self.fall[known], [1 / 6, 5 / 6])
        noise = float(np.median(self.fall_error[known]))
        # Two thirds of a normal distribution lie within 0.967 standard deviations.
        return float(np.sqrt(max(((high - low) / 2) ** 2 - (0.967 * noise) ** 2, 0.0)))


@dataclass(frozen=True)
class LineSums:
    """Sums over rows and over columns of pixels that keep their class, where sections begin and where they end.

    Rows and columns are cut into strips, each with a brightness and a decay of its own, so that a seam along the other
    axis is no step. Where there are more than 512 lines, neighbouring ones are taken together.

    Attributes
    ----------
    sums
        For y and x: intensity at the start and at the end, and pixels, `(start, end or pixels; section, tissue and
        strip, line)`.
    """

    sums: tuple[Series, Series]


def line_sums(views: NDArray[np.float32], through: NDArray[np.int8]) -> LineSums:
    """Sum views `(section, view, y, x)` over rows and columns, over pixels `(section, y, x)` that keep their class."""
    shape = views.shape[-2:]
    lines = tuple(min(n, _MOST_LINES) for n in shape)
    sums = tuple(np.zeros((3, len(views), len(TISSUES), TILES, n)) for n in lines)
    for s, (first, *_, last) in enumerate(views):
        has = np.isfinite(first) & np.isfinite(last)
        for t, kind in enumerate(TISSUES):
            where = (through[s] == kind) & has
            for which, image in enumerate((first, last, np.ones(1, np.float32))):
                values = np.where(where, image, np.float32(0))
                sums[0][which, s, t] = _binned(values.T, (TILES, lines[0]))
                sums[1][which, s, t] = _binned(values, (TILES, lines[1]))
    by_y, by_x = (one.reshape(3, len(views), -1, one.shape[-1]) for one in sums)
    return LineSums((by_y, by_x))


def _binned(image: NDArray[np.float32], bins: tuple[int, int]) -> Series:
    """Sums of an image over equal bins along both axes."""
    starts = [-(-np.arange(n_bins) * n // n_bins) for n_bins, n in zip(bins, image.shape, strict=True)]
    binned: Series = np.add.reduceat(np.add.reduceat(image, starts[0], axis=0, dtype=np.float64), starts[1], axis=1)
    return binned


def lateral_profile(
    tiles: TileSums, sums: ClassSums, section: Index, depth: Index, floor: float | Series
) -> LateralProfile | None:
    """Profile of every tile; None where too little is seen to say how sure it is."""
    own = slice(1, 1 + len(TISSUES))
    total, count = tiles.total[:, own], tiles.count[:, own]
    mean = total / np.maximum(count, 1)
    signal = mean - np.reshape(floor, (-1, 1, 1))
    known = (count >= _FEWEST_PIXELS) & (signal > _LEAST_SIGNAL * mean) & (mean > 0)
    known &= np.isfinite(sums.mean[:, own])[..., None]
    y = np.log(np.where(known, signal, 1.0))
    noise = sums.variance[1:, None] / np.maximum(count, 1) * (mean / np.where(known, signal, 1.0)) ** 2
    base = np.where(known, 1 / (noise + _ANATOMY**2), 0.0)
    first = np.flatnonzero(np.diff(section, prepend=-1))
    n_depths = int(depth.max()) + 1
    rows = [np.flatnonzero(depth == d) for d in range(n_depths)]

    weight = base
    for _ in range(3):
        profile, left, weights = _fitted(y, weight, first, section, depth, rows)
        scaled = left * np.sqrt(base)
        usual = 1.4826 * float(np.median(np.abs(scaled[known]))) if known.any() else 1.0
        weight = base * np.minimum(1, _OUTLYING * usual / np.maximum(np.abs(scaled), 1e-12))
    seen = weight > 0
    brightness = np.logical_or.reduceat(seen, first, axis=0)
    unknowns = brightness.sum() + seen.any(axis=2).sum() + (weights > 0).sum()
    if not seen.any() or seen.sum() < 1.2 * unknowns:
        return None
    grow = seen.sum() / (seen.sum() - unknowns)
    error = np.full(weights.shape, np.inf)
    for d, here in enumerate(rows):
        if weights[d].any():
            chi2 = grow * float(np.sum(weight[here] * left[here] ** 2) / seen[here].sum())
            error[d] = np.sqrt(np.divide(chi2, weights[d], out=error[d].copy(), where=weights[d] > 0))
    fall, fall_error = _falls(profile, weights, left, weight, first, section, depth, grow)
    return LateralProfile(profile, error, fall, fall_error)


def _fitted(
    y: Series, weight: Series, first: Index, section: Index, depth: Index, rows: list[Index]
) -> tuple[Series, Series, Series]:
    """Profile `(depth, tile)`, residuals and the weight behind every profile, by least squares in turn."""
    plane = np.zeros((*y.shape[:2], 1))
    profile = np.zeros((len(rows), y.shape[2]))
    of_set = np.maximum(np.add.reduceat(weight, first, axis=0), 1e-300)
    of_plane = np.maximum(weight.sum(axis=2, keepdims=True), 1e-300)
    weights = np.stack([weight[here].sum(axis=(0, 1)) for here in rows])
    for _ in range(_ROUNDS):
        rest = y - profile[depth][:, None]
        brightness = np.add.reduceat(weight * (rest - plane), first, axis=0) / of_set
        rest = rest - brightness[section]
        plane = (weight * rest).sum(axis=2, keepdims=True) / of_plane
        left = (rest - plane) * weight
        step = np.stack([left[here].sum(axis=(0, 1)) for here in rows])
        profile = _centred(profile + step / np.maximum(weights, 1e-300), weights)
    left = y - profile[depth][:, None] - brightness[section] - plane
    return profile, np.where(weight > 0, left, 0.0), weights


def _centred(profile: Series, weights: Series) -> Series:
    """Mean 0 over tiles for every depth, and over depths for every tile; 0 where nothing is known."""
    known = weights > 0
    for axis in (1, 0):
        w = weights if axis == 1 else known.astype(float)
        mean = (w * profile).sum(axis=axis, keepdims=True) / np.maximum(w.sum(axis=axis, keepdims=True), 1e-300)
        profile = np.where(known, profile - mean, 0.0)
    return profile


def _falls(
    profile: Series,
    weights: Series,
    left: Series,
    weight: Series,
    first: Index,
    section: Index,
    depth: Index,
    grow: float,
) -> tuple[Series, Series]:
    """Change of every tile along depth, and its standard error from how sections and classes differ in it."""
    span = np.arange(len(profile)) / max(len(profile) - 1, 1) - 0.5
    known = weights > 0
    centred = np.where(known, span[:, None] - _mean(np.broadcast_to(span[:, None], known.shape), known), 0.0)
    fall = (centred * profile).sum(axis=0) / np.maximum((centred**2).sum(axis=0), 1e-300)
    # What every set of pixels has of its own.
    seen = weight > 0
    along = np.where(seen, span[depth][:, None, None], 0.0)
    n = np.maximum(np.add.reduceat(seen, first, axis=0, dtype=float), 1)
    along = np.where(seen, along - (np.add.reduceat(along, first, axis=0) / n)[section], 0.0)
    squares = np.add.reduceat(along**2, first, axis=0)
    slopes = np.add.reduceat(along * left, first, axis=0) / np.maximum(squares, 1e-300)
    trust = np.add.reduceat(weight * along**2, first, axis=0)
    variance = grow * float((trust * slopes**2).sum() / max((trust > 0).sum(), 1))
    total = trust.sum(axis=(0, 1))
    error = np.sqrt(np.divide(variance, total, out=np.full(len(total), np.inf), where=total > 0))
    return fall, error


def _mean(values: Series, known: NDArray[np.bool_]) -> Series:
    mean: Series = np.where(known, values, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return mean


def smooth_gain(found: LateralProfile) -> Series:
    """Gain at the centres of the tiles, `(depth, y, x)`.

    At every depth a plane is fitted to the tiles around each, with weights that fall off as a Gaussian and with their
    errors, and drawn to 0 as far as errors explain how tiles differ; where they explain most of it everywhere, it is 1.
    """
    log, known = np.zeros(found.profile.shape), np.isfinite(found.error)
    noise = np.where(known, found.error, 0) ** 2
    usual = noise.sum(axis=1, keepdims=True) / np.maximum(known.sum(axis=1, keepdims=True), 1)
    # Weighted, so that tiles of few pixels do not decide.
    w = np.where(known, 1 / np.maximum(noise + usual, 1e-12), 0)
    w /= np.maximum(w.sum(axis=1, keepdims=True), 1e-300)
    total, by_error = (w * found.profile**2).sum(axis=1), (w * noise).sum(axis=1)
    if total.sum() > _DOUBT * by_error.sum():
        for d in np.flatnonzero(total > by_error):
            log[d] = _smoothed(found.profile[d], noise[d], known[d], float(total[d] - by_error[d]))
    return _gain(log).reshape(-1, TILES, TILES)


def _smoothed(profile: Series, noise: Series, known: NDArray[np.bool_], variance: float) -> Series:
    """Values of tiles, smoothed, where they vary by `variance` and each has the error variance `noise`."""
    place = np.stack(np.divmod(np.arange(TILES**2), TILES), axis=1).astype(float)
    away = place[None] - place[:, None]  # (node, tile, axis)
    squares = (away**2).sum(axis=2)
    w = np.exp(-squares / 2 / _WIDTH**2) * np.where(known, 1 / (noise + variance), 0)
    terms = np.concatenate([np.ones((*squares.shape, 1)), away], axis=2)
    normal = np.einsum("nti,nt,ntj->nij", terms, w, terms)
    normal[:, [1, 2], [1, 2]] += _STEADY * w.sum(axis=1, keepdims=True)
    smoother = np.linalg.solve(normal, np.swapaxes(terms * w[..., None], 1, 2))[:, 0]
    smooth = smoother @ profile * variance / (variance + (smoother**2 * noise).sum(axis=1))
    # A tile without tissue is as the nearest one that has some.
    nearest = np.argmin(np.where(known, squares, np.inf), axis=1)
    filled: Series = smooth[nearest]
    return filled


@dataclass(frozen=True)
class Seam:
    """A line across which the profile changes.

    Attributes
    ----------
    place
        Where its farther side begins, as a share of the field.
    change, error
        By how much the fall of the farther side is larger, and its standard error.
    step, spread
        Step at the line itself, and robust standard deviation of what such steps are without it.
    """

    place: float
    change: float
    error: float
    step: float
    spread: float

    @property
    def significant(self) -> bool:
        """Whether it is sharp, stands out, and separates sides that differ: a slope makes no step."""
        return (
            abs(self.step) > max(_SEAM_ERRORS * self.spread, _LEAST_SEAM)
            and abs(self.change) > max(_SEAM_ERRORS * self.error, _LEAST_SEAM)
            and self.step * self.change > 0
            and abs(self.step) > abs(self.change) / 2
        )


def find_seam(found: LateralProfile, lines: LineSums, axis: int, floor: float) -> Seam | None:
    """The line along an axis where the fall has its largest step; None where no tissue is seen on both sides."""
    sums = lines.sums[axis]
    start, end = (one / np.maximum(sums[2], 1) - floor for one in sums[:2])
    known = (sums[2] > 0) & (start > 0) & (end > 0)
    weight = np.where(known, sums[2], 0.0)
    ratio = np.log(np.where(known, end, 1) / np.where(known, start, 1))
    line = np.zeros(ratio.shape[-1])
    of_line = weight.sum(axis=(0, 1))
    for _ in range(_ROUNDS):
        of_set = (weight * (ratio - line)).sum(axis=2, keepdims=True) / np.maximum(weight.sum(axis=2, keepdims=True), 1)
        line = (weight * (ratio - of_set)).sum(axis=(0, 1)) / np.maximum(of_line, 1)
    n = len(line)
    half = max(round(_WINDOW * n), 2)
    least = int(np.ceil(_FEWEST_TILES / TILES * n))
    cuts = np.arange(max(half, least), n - max(half, least) + 1)
    steps = _steps(line, of_line, cuts, half)
    if not np.isfinite(steps).any():
        return None
    best = int(np.nanargmax(np.abs(steps)))
    rest = _steps(line - steps[best] * (np.arange(n) >= cuts[best]), of_line, cuts, half)
    place = float(cuts[best]) / n
    spread = 1.4826 * float(np.nanmedian(np.abs(rest)))
    sides = [np.isin(np.indices((TILES, TILES))[axis].ravel(), _within(place, side)) for side in (0, 1)]
    precise = np.where(np.isfinite(found.fall_error), 1 / found.fall_error**2, 0.0)
    weights = [float(precise[side].sum()) for side in sides]
    if min(weights) == 0:
        return None
    falls = [float((precise * found.fall)[side].sum()) / w for side, w in zip(sides, weights, strict=True)]
    error = float(np.sqrt(1 / weights[0] + 1 / weights[1]))
    return Seam(place, falls[1] - falls[0], error, float(steps[best]), spread)


def _steps(line: Series, weight: Series, cuts: Index, half: int) -> Series:
    return np.array([_step(line[cut - half : cut + half], weight[cut - half : cut + half]) for cut in cuts])


def _step(line: Series, weight: Series) -> float:
    """Step in the middle of a run of lines, beside a slope; NaN where one side is empty."""
    half = len(line) // 2
    if min(weight[:half].sum(), weight[half:].sum()) < 0.1 * weight.sum() or weight.sum() == 0:
        return np.nan
    along = np.linspace(-1, 1, len(line))
    terms = np.stack([np.ones(len(line)), along, np.arange(len(line)) >= half], axis=1)
    normal = (terms.T * weight) @ terms
    normal[np.diag_indices(3)] *= 1 + 1e-9
    return float(np.linalg.solve(normal, (terms.T * weight) @ line)[2])


def _within(place: float, side: int) -> Index:
    """Rows of tiles that lie wholly on one side of a line, but for a tenth."""
    tile = np.arange(TILES)
    return np.flatnonzero(tile + 0.9 <= place * TILES if side == 0 else tile + 0.1 >= place * TILES)


def piecewise_gain(found: LateralProfile, seams: tuple[Seam | None, Seam | None]) -> tuple[Series, list[Series]]:
    """Gain of the pieces between seams along y and x, `(depth, y, x)`, and where the pieces begin along both."""
    begins = [np.array([0.0, 1.0 if seam is None else seam.place]) for seam in seams]
    pieces = [
        [np.arange(TILES)] * 2 if seam is None else [_within(seam.place, side) for side in (0, 1)] for seam in seams
    ]
    weight = np.where(np.isfinite(found.error), 1 / found.error**2, 0.0).reshape(-1, TILES, TILES)
    profile = found.profile.reshape(weight.shape)
    log = np.zeros((len(profile), 2, 2))
    for i, rows in enumerate(pieces[0]):
        for j, columns in enumerate(pieces[1]):
            w, values = (part[:, rows][:, :, columns] for part in (weight, profile))
            total = w.sum(axis=(1, 2))
            log[:, i, j] = (w * values).sum(axis=(1, 2)) / np.maximum(total, 1e-300)
    if seams == (None, None):
        log[:] = 0
    return _gain(log), begins


def _gain(log: Series) -> Series:
    gain: Series = np.clip(np.exp(-log), 1 / LARGEST_GAIN, LARGEST_GAIN)
    return gain


def places_between(positions: Series, n: int) -> Series:
    """Place of every pixel among nodes, in nodes; beyond the outermost it is theirs."""
    places: Series = np.interp((np.arange(n) + 0.5) / n, positions, np.arange(len(positions), dtype=float))
    return places


def pieces_of(begins: Series, n: int) -> Series:
    """Piece of every pixel."""
    return np.searchsorted(begins[1:], (np.arange(n) + 0.5) / n, side="right").astype(float)


def multiply_by_field(
    plane: NDArray[np.float32], nodes: NDArray[np.floating], y: NDArray[np.floating], x: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Multiply a plane in place by what lies bilinearly between nodes, at the places `y` and `x` among them.

    Every pixel is computed by itself, so a part of a plane has the bits of the whole.
    """
    rows = _between(np.asarray(nodes, np.float64), y).astype(np.float32)
    plane *= _between(rows.T, x.astype(np.float32)).T
    return plane


def _between(nodes: NDArray[np.floating], place: NDArray[np.floating]) -> NDArray[np.floating]:
    """Values between the rows of nodes."""
    low = place.astype(np.int64)
    high = np.minimum(low + 1, len(nodes) - 1)
    share = (place - low.astype(place.dtype))[:, None]
    between: NDArray[np.floating] = nodes[low] * (1 - share) + nodes[high] * share
    return between
