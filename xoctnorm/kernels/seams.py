"""Seams across which the depth profile changes, and the profile in the pieces between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.classes import TISSUES
from xoctnorm.kernels.lateral import Index, LateralProfile, Series, bounded_gain
from xoctnorm.kernels.tile_series import TILES
from xoctnorm.shelf import Shelf

_ROUNDS = 20
_SEAM_ERRORS = 4.0  # standard errors by which a seam has to stand out
_LEAST_SEAM = 0.02
_MOST_LINES = 512
_WINDOW = 1 / 8  # of the field, on either side of a line that may be a seam
_FEWEST_TILES = 1.5  # on either side of a seam


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


def line_sums(views: NDArray[np.float32] | Shelf[NDArray[np.float32]], through: NDArray[np.int8]) -> LineSums:
    """Sum views `(section, view, y, x)` over rows and columns, over pixels `(section, y, x)` that keep their class."""
    shape = through.shape[-2:]
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
    """Sums of an image over equal bins along both axes; 0 in bins without pixels, where there are more bins."""
    along = [np.arange(n) * n_bins // n for n_bins, n in zip(bins, image.shape, strict=True)]
    places, starts = zip(*(np.unique(bin_of_pixel, return_index=True) for bin_of_pixel in along), strict=True)
    binned = np.zeros(bins)
    binned[np.ix_(*places)] = np.add.reduceat(
        np.add.reduceat(image, starts[0], axis=0, dtype=np.float64), starts[1], axis=1
    )
    return binned


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
    return bounded_gain(log), begins


def pieces_of(begins: Series, n: int) -> Series:
    """Piece of every pixel."""
    return np.searchsorted(begins[1:], (np.arange(n) + 0.5) / n, side="right").astype(float)
