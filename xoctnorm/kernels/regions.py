"""Agarose of an image whose levels are known: pixels weighed together with their neighbours."""

from __future__ import annotations

import numpy as np

from xoctnorm.kernels.backend import kernels_for, namespace
from xoctnorm.kernels.levels import Bool, Image, Scale, average, connected
from xoctnorm.kernels.morphology import eroded
from xoctnorm.kernels.order_statistics import median
from xoctnorm.kernels.outlines import FEWEST_PIXELS, WIDTH, Outlined

_BLUR = 0.15  # spread by pixels that hold both classes, in contrasts
_TEXTURE = 0.1  # spread of the darkest tissue by its texture
_MOST_EVIDENCE = 20.0
# Towards tissue, of the contrast and of evidence: neighbours that agree eat at thin tissue more than at agarose, and
# the more so the less a pixel tells by itself.
_LEAN, _FAVOUR = 0.03, 0.4
_SWEEPS = 10


def region(one: Outlined, centre: float, step: float, extra: Bool | None = None) -> Bool:
    """Agarose of an image: nearer to the level of agarose than to that of the darkest tissue, `step` above it.

    A pixel is weighed together with its neighbours (mean field of an Ising model), so that the outline is
    as sharp as the noise allows. The level of agarose may change slowly over the image. What is not
    connected to agarose that is beyond doubt is tissue; what is much darker than agarose is no tissue.
    """
    width = one.width if np.isfinite(one.width) else step / 8
    core = one.field & (one.reached <= centre + min(WIDTH * width, step / 2))
    if not (core & (one.smooth >= centre - step / 2)).any():
        return core
    level = local_level(one, core & (one.smooth >= centre - step / 2))
    evidence = weigh(one.level, level, step, max(one.noise, width * 3.5 * one.sigma), one.scale)
    mask = settle(np.where(one.field, evidence, 0), one.field)
    mask = connected(mask, core)
    return mask if extra is None else mask | (extra & one.field)


def local_level(one: Outlined, core: Bool) -> Image:
    """Level of agarose at every pixel, from the core around it."""
    inner = eroded(core, 2)
    used = inner if inner.sum() >= FEWEST_PIXELS else core
    return average(np.where(used, one.smooth, 0), used, one.reach, median(one.smooth[used]))


def weigh(level: Image, agarose: Image | float, step: float, noise: float, scale: Scale) -> Image:
    """Log likelihood ratio of tissue, `step` above agarose, against agarose, within ±20.

    A pixel that holds both, or holds each in half of the planes, has the mean of their intensities, not of their logs.
    """
    dark = noise**2 + (_BLUR * step) ** 2
    bright = dark + min(_TEXTURE, 0.35 * step) ** 2
    # Next to bright agarose most tissue is farther from it than `step`, which is in favour of tissue as it is.
    partial, favour = (scale.middle(step) - step / 2, _FAVOUR) if scale.sign > 0 else (0.0, 0.0)
    xp = namespace(level)
    above = level - agarose + np.float32(_LEAN * step - partial)
    short = xp.minimum(above - step, 0)  # squared by a product: powers are not rounded alike everywhere
    evidence = above * xp.abs(above) / (2 * dark) - short * short / (2 * bright)
    evidence += np.float32(favour - np.log(bright / dark) / 2)
    clipped: Image = xp.clip(evidence, -_MOST_EVIDENCE, _MOST_EVIDENCE).astype(np.float32)
    return clipped


def settle(evidence: Image, field: Bool) -> Bool:
    """Agarose by evidence and by neighbours that agree."""
    xp, regions = namespace(evidence), kernels_for(evidence, "compiled_regions")
    belief, outside = xp.tanh(evidence / 2), ~field
    weighed = xp.empty_like(belief)
    for _ in range(_SWEEPS):
        belief[outside] = 0
        regions.weigh_neighbours(belief, evidence, weighed)
        xp.tanh(weighed, out=belief)
    agarose: Bool = field & (belief < 0)
    return agarose
