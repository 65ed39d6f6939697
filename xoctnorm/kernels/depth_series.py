"""Agarose of single planes: every plane by its own levels, weighed together with the planes next to it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np
import scipy
from numpy.typing import NDArray

from xoctnorm.kernels.backend import to_host
from xoctnorm.kernels.levels import Bool, Image, Scale
from xoctnorm.kernels.morphology import dilated, eroded
from xoctnorm.kernels.outlines import Outlined
from xoctnorm.kernels.regions import settle, weigh

_WEIGHTS = {0: 1.0, 1: 0.6, 2: 0.14}  # of a plane, and of those one and two planes away
_PRIOR = 2.0  # evidence that the outline of the section gives
_LEAST_CONTRAST = 0.25  # of that of the section: with less, a plane says nothing
_FEWEST_PIXELS = 100


def plane_masks(
    planes: Iterable[NDArray[np.generic]], outlined: Outlined, mask: Bool, step: float, scale: Scale
) -> Iterator[Bool]:
    """Agarose of the planes of one section, whose common outline is `mask`; two planes ahead are read.

    A plane without contrast follows the planes next to it and the outline of the section.
    """
    window: deque[Image | None] = deque(maxlen=5)
    ahead = 0
    for plane in planes:
        window.append(_evidence(plane, outlined, mask, step, scale))
        ahead += 1
        if ahead > 2:
            yield _mask(list(window), len(window) - 3, outlined, mask)
    for number in range(max(0, len(window) - min(ahead, 2)), len(window)):
        yield _mask(list(window), number, outlined, mask)


def _evidence(plane: NDArray[np.generic], outlined: Outlined, mask: Bool, step: float, scale: Scale) -> Image | None:
    """Evidence for tissue in a plane; None where it shows no contrast."""
    values = to_host(plane).astype(np.float32, copy=False)
    has = np.isfinite(values) & (values != 0) & outlined.field
    level = scale.level(np.where(has, values, 0)) - outlined.rise
    agarose = has & eroded(mask, 2)
    tissue = has & outlined.field & ~dilated(mask, 2)
    if min(agarose.sum(), tissue.sum()) < _FEWEST_PIXELS:
        return None
    floor = float(np.median(level[agarose]))
    usual = float(np.median(outlined.smooth[tissue])) - outlined.centre
    share = (float(np.median(level[tissue])) - floor) / usual if usual > 0 else 0.0
    if not share >= _LEAST_CONTRAST:
        return None
    noise = 1.4826 * float(np.median(np.abs(level[agarose] - floor)))
    weighed = weigh(level, floor, step * share, max(noise, 1e-6), scale)
    evidence: Image = np.where(has, weighed, 0).astype(np.float32)
    return evidence


def _mask(window: list[Image | None], number: int, outlined: Outlined, mask: Bool) -> Bool:
    total = np.where(mask, np.float32(-_PRIOR), np.float32(_PRIOR))
    for place, evidence in enumerate(window):
        weight = _WEIGHTS.get(abs(place - number))
        if evidence is not None and weight is not None:
            total += np.float32(weight) * evidence
    found = settle(np.where(outlined.field, total, 0), outlined.field)
    parts, _ = scipy.ndimage.label(found)
    sure = np.unique(parts[found & mask & outlined.core])
    return np.isin(parts, sure[sure > 0])
