"""Which pixels keep their class through a section: agarose, darker tissue, brighter tissue.

Light is attenuated along its way, so only a pixel whose column is one class from the cut down says how that class
falls off with depth, and only one that is the same class on both sides of a cut says what the cut changed.
Pixels near an edge, or between two classes, belong to none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
import scipy
from numpy.typing import NDArray

from xoctnorm.kernels.levels import average, noise_of
from xoctnorm.kernels.morphology import dilated, eroded
from xoctnorm.kernels.order_statistics import median
from xoctnorm.kernels.section_views import VIEWS
from xoctnorm.shelf import Shelf
from xoctnorm.threads import in_threads

Bool = NDArray[np.bool_]
Image = NDArray[np.float32]
Classes = NDArray[np.int8]

NONE, AGAROSE, DARK, BRIGHT = -1, 0, 1, 2
TISSUES = (DARK, BRIGHT)

_NOISE = 0.075  # smoothing goes on until the log noise of a pixel is below
_SMOOTHINGS = (0.6, 2.5)  # least and most, in pixels
_GUARD = 0.15  # of the contrast: pixels so near to the threshold have no class
_STRAY = 0.45  # of the contrast: how far pixels may be from their class around a cut
_FEWEST = 200  # pixels that tell the level of a class
_TWO_CLASSES = 0.68  # share of variance between Otsu's classes; it is 0.64 for one normal distribution
_CONTRASTS = 0.4  # by which contrasts of sections may differ
_LEAST_CONTRAST = 0.2  # log ratio of tissues below which noise decides which is which


@dataclass(frozen=True)
class TissueClasses:
    """Classes of pixels of every section, and how clearly they were told apart.

    Attributes
    ----------
    start
        Class of the pixels that keep it from the cut to the middle of the section, `(section, y, x)`.
    through
        Class of the pixels that keep it through the section, `(section, y, x)`.
    around
        Class of the pixels that keep it from the middle of the section to that of the next, `(section, y, x)`.
    contrast
        Log ratio of brighter to darker tissue; 0 where there is one class.
    sigma
        Smoothing that noise made necessary, in pixels.
    """

    start: Classes
    through: Classes
    around: Classes
    contrast: float
    sigma: float


def classify(views: Image | Shelf[Image], agarose: Bool, follows: Bool) -> TissueClasses:
    """Class of every pixel at the start of every section, and through it.

    Parameters
    ----------
    views
        Mean intensity at five depths, `(section, view, y, x)`; NaN where there is no data. Those between the first and
        the last are lost: the logs of their smoothed images take their place.
    agarose
        Agarose of every section, `(section, y, x)`.
    follows
        For every section, whether the next one continues it without a gap; the last does not.

    Notes
    -----
    Contrast is best below the cut, where nothing attenuates: there the classes are told, and the class at the end
    of a section is that at the beginning of the next. What tissue is dark and what is bright is settled in the
    section that shows it best, and handed on from section to section by the pixels that both share: levels of
    sections are never chained, since a chain of ratios drifts.
    """
    n = len(views)
    sigma = _smoothing(views[s][0] for s in range(n))
    logs = Shelf(in_threads(partial(_smooth_log, sigma=sigma), (views[s][0] for s in range(n))))
    beside = partial(dilated, times=1 + int(sigma > 1.2), corners=True)
    inner = np.empty(agarose.shape, bool)
    for s, (near, log) in enumerate(zip(in_threads(beside, agarose), logs, strict=True)):
        inner[s] = ~near & np.isfinite(log)
    for s in np.flatnonzero(~agarose.any(axis=(1, 2))).tolist():
        # What is agarose on both sides is hardly tissue here: rather its brightness hid it.
        inner[s] &= ~(agarose[max(s - 1, 0)] & agarose[min(s + 1, len(agarose) - 1)])
    levels, contrast = _levels(logs, inner)

    def painted(s: int) -> Classes:
        dark, bright = levels[s].tolist()
        return _paint(logs[s], inner[s], agarose[s], dark, bright, contrast)

    start = np.empty(agarose.shape, np.int8)
    for s, classes in enumerate(in_threads(painted, range(n))):
        start[s] = classes

    def of_section(s: int) -> tuple[Classes, Classes]:
        own = views[s]
        first, *between, last = own
        goes_on = follows[s] and (start[s + 1] > AGAROSE).any()
        end = start[s + 1] if goes_on else _last(first, last, start[s], inner[s], agarose[s], contrast, sigma)
        keeps = np.where(start[s] == end, start[s], NONE).astype(np.int8)
        for view in between:
            view[:] = _smooth_log(view, sigma)
        views[s] = own
        changed = [_changed(view, start[s], keeps) for view in between]
        kept = np.where(np.logical_or.reduce(changed[: VIEWS // 2]), NONE, start[s])
        return kept, np.where(np.logical_or.reduce(changed), NONE, keeps)

    kept, through = np.empty_like(start), np.empty_like(start)
    for s, pair in enumerate(in_threads(of_section, range(n))):
        kept[s], through[s] = pair

    def around_cut(s: int) -> Classes:
        if not follows[s]:
            return np.full_like(kept[s], NONE)
        after = np.where((kept[s + 1] > AGAROSE) & inner[s], kept[s + 1], NONE).astype(np.int8)
        # Below the cut it was looked at when `kept` was told.
        *between, last = views[s][VIEWS // 2 :]
        strays = [_strays(view, after) for view in (*between, _smooth_log(last, sigma))]
        return np.where(np.logical_or.reduce(strays), NONE, after)

    around = np.empty_like(start)
    for s, classes in enumerate(in_threads(around_cut, range(n))):
        around[s] = classes
    return TissueClasses(kept, through, around, contrast, sigma)


def _changed(log: Image, start: Classes, keeps: Classes) -> Bool:
    """Pixels that are the other class at some depth, judged by those that are one class at both ends."""
    dark, bright = _dark_and_bright(log, keeps)
    cut = (dark + bright) / 2
    changed: Bool = ((start == DARK) & (log > cut)) | ((start == BRIGHT) & (log < cut))
    return changed


def _strays(log: Image, keeps: Classes) -> Bool:
    """Pixels that are far from the level of their class at some depth, towards the other class or away from it."""
    dark, bright = _dark_and_bright(log, keeps)
    far = _STRAY * (bright - dark)
    strays: Bool = ((keeps == DARK) & (np.abs(log - dark) > far)) | ((keeps == BRIGHT) & (np.abs(log - bright) > far))
    return strays


def _dark_and_bright(log: Image, keeps: Classes) -> tuple[float, float]:
    """Levels of tissue at some depth; NaN, from which nothing is far, where they are not told apart."""
    values = [log[(keeps == kind) & np.isfinite(log)] for kind in TISSUES]
    if min(part.size for part in values) < _FEWEST:
        return np.nan, np.nan
    dark, bright = (mode(part) for part in values)
    return (dark, bright) if bright - dark >= _LEAST_CONTRAST else (np.nan, np.nan)


def _smoothing(images: Iterable[Image]) -> float:
    noise = np.median(list(in_threads(lambda image: noise_of(_log(image)), images)))
    least, most = _SMOOTHINGS
    return float(np.clip(noise / (_NOISE * np.sqrt(4 * np.pi)), least, most))


def _log(image: NDArray[np.floating]) -> Image:
    """Log of an image; what is not positive becomes as dark as anything may be."""
    above = image > 0
    least = 1e-3 * median(image if above.all() else image[above]) if above.any() else 1.0
    log: Image = np.log(np.maximum(image, np.float32(least)))
    return log


def _smooth_log(image: Image, sigma: float) -> Image:
    """Log of the smoothed image; NaN where there is no data."""
    has = np.isfinite(image)
    if has.all():
        return _log(average(image, has, sigma))
    return np.where(has, _log(average(np.where(has, image, 0), has, sigma)), np.float32(np.nan))


def mode(values: NDArray[np.floating]) -> float:
    """Centre of the main peak: a mean of what is within 1.5 robust deviations of it, iterated."""
    from xoctnorm.kernels import compiled
    from xoctnorm.kernels.compiled_peaks import main_peak

    return float(main_peak(compiled.frozen(np.sort(values, axis=None))))


def _levels(logs: Shelf[Image], inner: Bool) -> tuple[NDArray[np.float64], float]:
    """Levels of dark and bright tissue in every section, `(section, 2)`, and their usual distance."""
    n = len(logs)
    splits = np.array(list(in_threads(lambda s: _split(logs[s][inner[s]]), range(n))))
    contrasts = splits[:, 2] - splits[:, 1]
    usual = np.nanmedian(contrasts) if np.isfinite(contrasts).any() else np.nan
    score = np.where(_alike(contrasts, usual), splits[:, 0], 0)
    first = int(np.argmax(score))
    levels = np.full((n, 2), np.nan)
    if score[first] <= 0:  # one class everywhere
        for s in range(n):
            if inner[s].sum() >= _FEWEST:
                levels[s] = mode(logs[s][inner[s]])
        return levels, 0.0
    levels[first] = splits[first, 1:]
    bright_first = inner[first] & (logs[first] > levels[first].mean())
    for order in (range(first + 1, n), range(first - 1, -1, -1)):
        last, bright = first, bright_first
        for s in order:
            log = logs[s]
            found = _handed_on(log, inner[s] & inner[last], bright, contrasts[first])
            if found is None:
                found = _two_peaks(log[inner[s]], contrasts[first])
            if found is not None:
                levels[s] = found
                last, bright = s, inner[s] & (log > np.mean(found))
    return levels, float(np.nanmedian(levels[:, 1] - levels[:, 0]))


def _split(values: NDArray[np.floating]) -> tuple[float, float, float]:
    """How clearly values fall into two classes (0: not at all), and the levels of the two."""
    from skimage.filters import threshold_otsu

    from xoctnorm.kernels import compiled
    from xoctnorm.kernels.compiled_peaks import main_peak

    if values.size < 2 * _FEWEST or values.min() == values.max():
        return 0.0, np.nan, np.nan
    threshold = float(threshold_otsu(values))
    ordered = np.sort(values)
    for _ in range(5):  # from between the means to between the main peaks
        low, high = np.split(ordered, [int(np.searchsorted(ordered, np.float32(threshold)))])
        if min(low.size, high.size) < _FEWEST:
            return 0.0, np.nan, np.nan
        levels = main_peak(compiled.frozen(low)), main_peak(compiled.frozen(high))
        threshold = sum(levels) / 2
    share = low.size * high.size / values.size**2
    separability = share * (high.mean() - low.mean()) ** 2 / values.var()
    if separability < _TWO_CLASSES:
        return 0.0, np.nan, np.nan
    return float(separability * np.sqrt(min(low.size, high.size))), *levels


def _handed_on(log: Image, both: Bool, bright: Bool, contrast: float) -> tuple[float, float] | None:
    """Levels of the classes where the neighbouring section shows them."""
    values = [log[both & ~bright], log[both & bright]]
    found = [mode(part) if part.size >= _FEWEST else np.nan for part in values]
    if np.isnan(found).all():
        return None
    dark, light = found
    if np.isnan(dark):
        dark = light - contrast
    if np.isnan(light):
        light = dark + contrast
    return (dark, light) if _alike(light - dark, contrast) else None


def _two_peaks(values: NDArray[np.floating], contrast: float) -> tuple[float, float] | None:
    """Levels of two classes with the usual contrast, where they hold most of the values."""
    if values.size < 2 * _FEWEST:
        return None
    width = contrast / 20
    counts = np.bincount(((values - values.min()) / width).astype(np.int64), minlength=60)
    density = scipy.ndimage.gaussian_filter1d(counts.astype(float), 4, mode="constant")
    # Roots favour two peaks over one.
    start = int(np.argmax(np.sqrt(density[:-20]) + np.sqrt(density[20:])))
    dark = float(values.min()) + (start + 0.5) * width
    return dark, dark + contrast


def _alike(contrasts: NDArray[np.float64] | float, usual: float) -> NDArray[np.bool_]:
    """Whether contrasts of tissue may be the usual one: gain and floor change it, but not by half."""
    return np.abs(np.asarray(contrasts) - usual) <= _CONTRASTS * usual


def _paint(log: Image, inner: Bool, agarose: Bool, dark: float, bright: float, contrast: float) -> Classes:
    """Classes of one image, without pixels near an edge or a threshold."""
    out = np.full(log.shape, NONE, np.int8)
    if np.isfinite(dark):
        medium = median(log[agarose & np.isfinite(log)])
        width = bright - dark
        least, most = dark - 2 * width - 0.3, np.inf
        if medium < dark:
            least = max((dark + medium) / 2, least)
        elif medium > bright:
            most = (bright + medium) / 2
        cut, guard = (dark + bright) / 2, _GUARD * width
        if contrast == 0:
            cut, guard = dark + 0.7, 0.0
        masks = {DARK: inner & (log > least) & (log < cut - guard), BRIGHT: inner & (log > cut + guard) & (log < most)}
        for kind, mask in masks.items():
            out[eroded(mask)] = kind
    out[eroded(agarose, 2, corners=True) & np.isfinite(log)] = AGAROSE
    return out


def _last(
    start: Image, end: Image, first: Classes, inner: Bool, agarose: Bool, contrast: float, sigma: float
) -> Classes:
    """Classes at the end of a section that no other continues: those of its beginning, where they still fit.

    Contrast may be gone there, so pixels are also asked whether they fell off as others of their class did.
    """
    start, end = _smooth_log(start, 1.5 * sigma), _smooth_log(end, 1.5 * sigma)
    out = np.where(first == AGAROSE, AGAROSE, NONE).astype(np.int8)
    at = {kind: (first == kind) & np.isfinite(end) for kind in TISSUES}
    if at[DARK].sum() < _FEWEST // 4:
        return out
    dark = mode(end[at[DARK]])
    bright = mode(end[at[BRIGHT]]) if at[BRIGHT].sum() >= _FEWEST // 4 else dark + contrast
    painted = _paint(end, inner, agarose, dark, max(bright, dark), contrast)
    fall = end - start
    for kind in TISSUES:
        here = eroded((first == kind) & (painted == kind))
        if here.sum() >= _FEWEST // 4:
            centre = mode(fall[here])
            spread = 1.4826 * median(np.abs(fall[here] - centre))
            out[here & (np.abs(fall - centre) < 2.5 * spread + 0.02)] = kind
    return out
