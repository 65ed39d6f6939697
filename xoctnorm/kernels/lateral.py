"""How the depth profile varies over the field, tile by tile and smoothed.

For tile `t` of the pixels of class `c` in section `s`, in plane `z` at depth `d` below the cut::

    log(mean − noise floor) = brightness[s, c, t] + plane[z, c] + profile[d, t] + error

The brightness of a tile is free, so a seam that is the same at all depths is none of the profile; what belongs to
planes and classes is free as well. The profile has the mean 0 over depth for every tile, and over tiles at every depth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.backend import alike, namespace
from xoctnorm.kernels.class_sums import ClassSums, TileSums
from xoctnorm.kernels.classes import TISSUES
from xoctnorm.kernels.tile_series import TILES

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
    return bounded_gain(log).reshape(-1, TILES, TILES)


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


def bounded_gain(log: Series) -> Series:
    """Gain that takes out a log profile, within its bounds."""
    gain: Series = np.clip(np.exp(-log), 1 / LARGEST_GAIN, LARGEST_GAIN)
    return gain


def places_between(positions: Series, n: int) -> Series:
    """Place of every pixel among nodes, in nodes; beyond the outermost it is theirs."""
    places: Series = np.interp((np.arange(n) + 0.5) / n, positions, np.arange(len(positions), dtype=float))
    return places


def multiply_by_field(
    plane: NDArray[np.float32], nodes: NDArray[np.floating], y: NDArray[np.floating], x: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Multiply a plane in place by what lies bilinearly between nodes, at the places `y` and `x` among them.

    Every pixel is computed by itself, so a part of a plane has the bits of the whole.
    """
    rows = _between(np.asarray(nodes, np.float64), y).astype(np.float32)
    plane *= _between(alike(rows.T, plane), alike(x.astype(np.float32), plane)).T
    return plane


def _between(nodes: NDArray[np.floating], place: NDArray[np.floating]) -> NDArray[np.floating]:
    """Values between the rows of nodes."""
    low = place.astype(np.int64)
    high = namespace(place).minimum(low + 1, nodes.shape[0] - 1)
    share = (place - low.astype(place.dtype))[:, None]
    between: NDArray[np.floating] = nodes[low] * (1 - share) + nodes[high] * share
    return between
