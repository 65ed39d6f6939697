"""Agarose of a series of images that show the same tissue: what one image does not tell, those next to it do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.levels import Bool, Image
from xoctnorm.kernels.morphology import dilated, eroded
from xoctnorm.kernels.order_statistics import median
from xoctnorm.kernels.outlines import Outlined, contrast
from xoctnorm.kernels.regions import region
from xoctnorm.shelf import Shelf
from xoctnorm.threads import in_threads

_FEWEST_PIXELS = 100
_ENOUGH = 0.25  # of all images: where so many agree with the first one, no other is tried
_MOST_PARTIES = 5
_CAN_SAY = 0.6  # contrasts below are no larger than gains may be: levels then do not tell agarose from tissue

OWN, BY_LEVEL, BY_OUTLINE, ABSENT = "found", "level of its neighbours", "outline of its neighbours", "no agarose"


@dataclass(frozen=True)
class Agarose:
    """Masks of a series, and how they came about.

    Attributes
    ----------
    masks
        Agarose `(section, y, x)`.
    origin
        For every section: found in it, found by the level of agarose in its neighbours, taken over from
        them where it shows no contrast, or absent.
    step
        Level of the darkest tissue above agarose; NaN where no section has agarose.
    separability
        For every section, `step` in standard deviations of its agarose; 0 where that is not known.
    centre
        For every section, level of its agarose; NaN where that is not known.
    steps
        For every section, level of its darkest tissue above agarose.
    """

    masks: Bool
    origin: tuple[str, ...]
    step: float
    separability: NDArray[np.float64]
    centre: NDArray[np.float64]
    steps: NDArray[np.float64]


def series_agarose(outlined: Shelf[Outlined], seeds: list[Bool | None]) -> Agarose:
    """Agarose of every image of a series.

    From one image on, every image is compared with the last one that was settled. Where its dark class lies
    nearer to tissue than to agarose, given how tissue changed its level from one to the other, it is tissue.
    The first image is one with seeds, or the clearest one with which others agree.
    """
    step, shares = contrast(outlined)
    count = len(outlined)
    if np.isnan(step):
        masks = np.zeros((count, *outlined[0].field.shape), bool)
        return Agarose(masks, (ABSENT,) * count, step, np.zeros(count), *np.full((2, count), np.nan))
    clear = np.array(list(in_threads(_clearness, outlined)))
    clear[[one is not None for one in seeds]] = np.inf
    clear[np.isinf(shares) & np.isfinite(clear)] = -1
    asked = np.zeros(count, bool)
    likely = _Likely.of(int(np.argmax(clear)), outlined, seeds, step, shares)
    best: _Party | None = None
    for _ in range(_MOST_PARTIES):
        first = int(np.argmax(np.where(asked, -np.inf, clear)))
        party = _party(first, outlined, seeds, likely, step, shares)
        asked |= party.agreed
        best = party if best is None or party.agreed.sum() > best.agreed.sum() else best
        if np.isinf(clear).any() or asked.all() or best.agreed.sum() >= max(2, _ENOUGH * count):
            break
    assert best is not None
    _bridge(best.masks, best.origin, outlined)
    widths = np.array([one.width for one in outlined])
    known = np.isfinite(best.centre) & (widths > 0)
    separability = np.where(known, step / np.where(known, widths, 1), 0)
    return Agarose(best.masks, tuple(best.origin), step, separability, best.centre, best.steps)


@dataclass(frozen=True)
class _Party:
    """What follows from beginning with one image."""

    masks: Bool
    origin: list[str]
    centre: NDArray[np.float64]
    steps: NDArray[np.float64]

    @property
    def agreed(self) -> Bool:
        """Images whose own dark class is agarose then."""
        return np.array([how == OWN for how in self.origin])


@dataclass(frozen=True)
class _Likely:
    """Agarose of every image as it most likely turns out, that of its own dark class: found side by side in threads.

    Images are settled one after the other, and where this is what follows, it need not be found then. In the first one
    tissue has its usual level, a plain number: there, other than elsewhere, pixels are weighed in float32.
    """

    first: int
    masks: Bool
    centre: NDArray[np.float64]
    steps: NDArray[np.float64]

    @classmethod
    def of(
        cls, first: int, outlined: Shelf[Outlined], seeds: list[Bool | None], step: float, shares: NDArray[np.float64]
    ) -> _Likely:
        """Level of tissue above agarose is what each image shows, unless it has seeds or shows hardly any."""
        masks = np.zeros((len(outlined), *outlined[0].field.shape), bool)
        centre, steps = np.full(len(outlined), np.nan), step * np.minimum(shares, 1)

        def find(i: int) -> None:
            one = outlined[i]
            if one.found:
                own_step = one.darkest_tissue - one.centre
                if seeds[i] is None and own_step > step / 4:
                    steps[i] = min(steps[i], own_step)
                centre[i] = one.centre
                masks[i] = region(one, centre[i], step if i == first else steps[i], seeds[i])

        for _ in in_threads(find, range(len(outlined))):
            pass
        return cls(first, masks, centre, steps)

    def region(self, i: int, one: Outlined, centre: float, step: float, seeds: Bool | None) -> Bool:
        """What `region` finds in an image."""
        is_known = i != self.first and centre == self.centre[i] and step == self.steps[i]
        found: Bool = self.masks[i] if is_known else region(one, centre, step, seeds)
        return found


def _party(
    first: int,
    outlined: Shelf[Outlined],
    seeds: list[Bool | None],
    likely: _Likely,
    step: float,
    shares: NDArray[np.float64],
) -> _Party:
    """Settle all images from the first on, forwards and backwards.

    An image without agarose, judged by the one on its one side, is judged by the one on its other side too.
    """
    count = len(outlined)
    centre, origin = np.full(count, np.nan), [BY_OUTLINE] * count
    masks = np.zeros((count, *outlined[0].field.shape), bool)
    beginning = outlined[first]
    centre[first], origin[first] = beginning.centre, OWN
    is_known = first == likely.first and beginning.found
    masks[first] = likely.masks[first] if is_known else region(beginning, centre[first], step, seeds[first])
    steps = step * np.minimum(shares, 1)
    steps[first] = step

    def settle(direction: range) -> None:
        last, known = first, beginning
        for i in direction:
            one = outlined[i]
            if seeds[i] is not None and one.found:
                centre[i], origin[i] = one.centre, OWN
            else:
                centre[i], origin[i], own = _judge(one, known, centre[last], masks[last], step)
                steps[i] = min(steps[i], own)
            if np.isfinite(centre[i]):
                steps[i] = steps[i] if origin[i] == OWN else step
                masks[i] = likely.region(i, one, centre[i], steps[i], seeds[i])
                last, known = i, one

    for _ in in_threads(settle, (range(first + 1, count), range(first - 1, -1, -1))):
        pass
    for i in [row for row, how in enumerate(origin) if how == ABSENT]:
        for j in _nearest_settled(origin, i):
            centre[i], origin[i], own = _judge(outlined[i], outlined[j], centre[j], masks[j], step)
            steps[i] = min(steps[i], own)
            if np.isfinite(centre[i]):
                steps[i] = steps[i] if origin[i] == OWN else step
                masks[i] = likely.region(i, outlined[i], centre[i], steps[i], seeds[i])
                break
            centre[i], origin[i] = np.nan, ABSENT
    return _Party(masks, origin, centre, steps)


def _nearest_settled(origin: list[str], i: int) -> list[int]:
    """The nearest images with agarose of their own before and after one."""
    own = [j for j, how in enumerate(origin) if how == OWN]
    return [*[j for j in own if j < i][-1:], *[j for j in own if j > i][:1]]


def _clearness(one: Outlined) -> float:
    """How far tissue lies above agarose, in widths, for choosing where to begin."""
    if not one.found:
        return -1.0
    rest = one.field & ~one.core
    shares = one.core.sum() / one.field.sum(), rest.sum() / one.field.sum()
    if min(shares) < 0.02:
        return 0.0
    return float((median(one.smooth[rest]) - one.centre) / (one.width + 1e-6) * min(*shares, 0.1))


def _judge(one: Outlined, known: Outlined, centre: float, mask: Bool, step: float) -> tuple[float, str, float]:
    """Level of agarose in an image, given one whose agarose is known, and of tissue above it.

    NaN, and why, where there is none to be had.
    """
    both = one.field & known.field
    agarose = both & eroded(mask | ~known.field, 2) & mask
    inside = both & eroded(~mask, 2)
    change = one.smooth - known.smooth
    bright = inside & ~dilated(one.core, 2) if one.found else inside
    of_tissue = _median(change, bright if bright.sum() >= _FEWEST_PIXELS else inside)
    of_agarose = _median(change, agarose)
    expected = centre + (of_tissue if np.isfinite(of_tissue) else of_agarose)
    if one.found and not np.isfinite(expected):
        return one.centre, OWN, step  # nothing to compare with
    tissue = one.darkest_tissue
    # Tissue in place of agarose would be the dark class itself: then what lies above it is not as it was.
    same_tissue = tissue - one.centre > step / 4 and abs(tissue - known.darkest_tissue - of_tissue) < step / 4
    own_step = min(step, tissue - one.centre) if same_tissue else step
    if one.found and abs(one.centre - expected) < step / 2:
        return one.centre, OWN, own_step
    if one.found and abs(one.centre - centre) < min(step / 2, _CAN_SAY):
        gave_way = _flat(one, one.core, step / 2) and abs(_median(one.smooth, inside) - one.centre) < step / 4
        if gave_way and (one.core & agarose).sum() >= max(_FEWEST_PIXELS, agarose.sum() / 2):
            return one.centre, OWN, step  # where tissue was there is agarose now: its change tells nothing
    dark = (one.reached <= expected + step / 4) & one.field
    if not one.found and dark.sum() >= max(_FEWEST_PIXELS, 0.01 * one.field.sum()) and not _flat(one, dark, step):
        return _median(one.smooth, dark), BY_LEVEL, step
    if not np.isfinite(of_agarose):
        return float("nan"), ABSENT if np.isfinite(of_tissue) else BY_OUTLINE, step
    if abs(of_tissue - of_agarose) < step / 2:
        return _median(one.smooth, agarose), BY_LEVEL, step
    # Tissue in place of agarose is brighter than that, whatever the gain: a section that went dark is not.
    structured = one.found and not _flat(one, one.core, step) and of_agarose > -step / 4
    bright_enough = structured or max(of_tissue + step / 2, of_agarose - step / 4) > 0
    told = of_agarose < of_tissue or bright_enough
    if one.found and told and same_tissue and abs(one.centre - expected) < step:
        return one.centre, OWN, own_step  # agarose changed alone
    return float("nan"), ABSENT if of_agarose - of_tissue > step / 2 and bright_enough else BY_OUTLINE, step


def _flat(one: Outlined, dark: Bool, step: float) -> bool:
    """Whether an image has no brighter class beside a dark one."""
    rest = one.field & ~dark
    return rest.sum() < _FEWEST_PIXELS or _median(one.smooth, rest) - _median(one.smooth, dark) < step / 2


def _median(values: Image, where: Bool) -> float:
    return median(values[where]) if where.sum() >= _FEWEST_PIXELS else float("nan")


def _bridge(masks: Bool, origin: list[str], outlined: Shelf[Outlined]) -> None:
    """Give images without contrast the outline of the nearest one that has its own."""
    settled = [i for i, how in enumerate(origin) if how in (OWN, BY_LEVEL)]
    for i, how in enumerate(origin):
        if how == BY_OUTLINE:
            nearest = min(settled, key=lambda j: abs(j - i))
            masks[i] = masks[nearest] & outlined[i].field


__all__ = ["ABSENT", "BY_LEVEL", "BY_OUTLINE", "OWN", "Agarose", "series_agarose"]
