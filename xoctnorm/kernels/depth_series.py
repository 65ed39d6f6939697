"""Agarose of single planes: every plane by its own levels, weighed together with the planes next to it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.backend import alike, namespace, numbers
from xoctnorm.kernels.levels import Bool, Image, Scale, connected
from xoctnorm.kernels.morphology import dilated, eroded
from xoctnorm.kernels.order_statistics import median
from xoctnorm.kernels.outlines import Outlined
from xoctnorm.kernels.regions import settle, weigh

_WEIGHTS = {0: 1.0, 1: 0.6, 2: 0.14}  # of a plane, and of those one and two planes away
_PRIOR = 2.0  # evidence that the outline of the section gives
_LEAST_CONTRAST = 0.25  # of that of the section: with less, a plane says nothing
_FEWEST_PIXELS = 100


@dataclass(frozen=True)
class _Section:
    """What the outline of a section tells of its planes, in the memory where these are.

    Attributes
    ----------
    mask, field
        Agarose, and where there is data.
    sure
        Agarose without doubt, to which that of a plane has to be connected.
    agarose, tissue
        The two without the pixels next to the outline.
    smooth, rise
        Those of `Outlined`.
    centre
        Level of agarose in `smooth`.
    """

    mask: Bool
    field: Bool
    sure: Bool
    agarose: Bool
    tissue: Bool
    smooth: Image
    rise: Image | float
    centre: float

    @classmethod
    def of(cls, outlined: Outlined, mask: Bool) -> _Section:
        """Bring what is needed of an outline to where its mask is, once."""
        field, rise = alike(outlined.field, mask), outlined.rise
        return cls(
            mask=mask,
            field=field,
            sure=mask & alike(outlined.core, mask),
            agarose=eroded(mask, 2),
            tissue=field & ~dilated(mask, 2),
            smooth=alike(outlined.smooth, mask),
            rise=alike(rise, mask) if isinstance(rise, np.ndarray) else rise,
            centre=outlined.centre,
        )


def plane_masks(
    planes: Iterable[NDArray[np.generic]], outlined: Outlined, mask: Bool, step: float, scale: Scale
) -> Iterator[Bool]:
    """Agarose of the planes of one section, whose common outline is `mask`; two planes ahead are read.

    A plane without contrast follows the planes next to it and the outline of the section. Masks are where planes are;
    only `outlined` is on the host.
    """
    section = _Section.of(outlined, mask)
    window: deque[Image | None] = deque(maxlen=5)
    ahead = 0
    for plane in planes:
        window.append(_evidence(plane, section, step, scale))
        ahead += 1
        if ahead > 2:
            yield _mask(list(window), len(window) - 3, section)
    for number in range(max(0, len(window) - min(ahead, 2)), len(window)):
        yield _mask(list(window), number, section)


def _evidence(plane: NDArray[np.generic], section: _Section, step: float, scale: Scale) -> Image | None:
    """Evidence for tissue in a plane; None where it shows no contrast."""
    xp = namespace(plane)
    values = plane.astype(np.float32, copy=False)
    has = xp.isfinite(values) & (values != 0) & section.field
    level = scale.level(xp.where(has, values, 0)) - section.rise
    agarose, tissue = has & section.agarose, has & section.tissue
    if numbers(xp.sum(agarose), xp.sum(tissue)).min() < _FEWEST_PIXELS:
        return None
    floor = median(level[agarose])
    usual = median(section.smooth[tissue]) - section.centre
    share = (median(level[tissue]) - floor) / usual if usual > 0 else 0.0
    if not share >= _LEAST_CONTRAST:
        return None
    noise = 1.4826 * median(xp.abs(level[agarose] - np.float32(floor)))
    weighed = weigh(level, floor, step * share, max(noise, 1e-6), scale)
    evidence: Image = xp.where(has, weighed, 0).astype(np.float32)
    return evidence


def _mask(window: list[Image | None], number: int, section: _Section) -> Bool:
    xp = namespace(section.mask)
    total = xp.where(section.mask, np.float32(-_PRIOR), np.float32(_PRIOR))
    for place, evidence in enumerate(window):
        weight = _WEIGHTS.get(abs(place - number))
        if evidence is not None and weight is not None:
            total += np.float32(weight) * evidence
    found = settle(xp.where(section.field, total, 0), section.field)
    return connected(found, section.sure)
