"""Anatomies for the phantom that are not its own: classes `(n, y, x)` from a seed and the shape of the field."""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import zoom

from xoctnorm.phantom import AGAROSE, GREY_MATTER, WHITE_MATTER
from xoctnorm.phantom.anatomy import WavyBrain
from xoctnorm.phantom.series import Stream, rng_of

_PLANES = 120
_FILLED = 0.8  # share of the field, along y or x, that the real brain takes


def cropped_brain(seed: int, shape: tuple[int, int]) -> NDArray[np.int8]:
    """Make the folded brain of a wider field, of which the left part lies outside."""
    brain = WavyBrain.draw(rng_of(seed, Stream.ANATOMY))
    wider = (shape[0], shape[1] + shape[1] * 2 // 5)
    return np.stack([brain(wider, (i + 0.5) / _PLANES)[0][:, -shape[1] :] for i in range(_PLANES)])


def icbm152(seed: int, shape: tuple[int, int]) -> NDArray[np.int8]:
    """Coronal slices of the ICBM152 template that nilearn brings along: the larger probability, agarose around.

    The seed moves the slab by up to 10 % of the length of the brain.
    """
    grey, white = _template()
    brain = np.argwhere(grey + white > 0.5)
    (first, top, left), (last, bottom, right) = brain.min(0), brain.max(0) + 1
    length = last - first
    start = first + round(length * (0.1 + 0.1 * float(rng_of(seed, Stream.ANATOMY).uniform())))
    slab = slice(start, start + round(0.75 * length))
    scale = _FILLED * min(shape[0] / (bottom - top), shape[1] / (right - left))
    factors = (_PLANES / (slab.stop - slab.start), scale, scale)
    resized = [zoom(part[slab, top:bottom, left:right], factors, order=1) for part in (grey, white)]

    n, height, width = resized[0].shape
    y, x = (shape[0] - height) // 2, (shape[1] - width) // 2
    classes = np.full((n, *shape), AGAROSE, np.int8)
    inner = classes[:, y : y + height, x : x + width]
    inner[resized[0] + resized[1] > 0.5] = GREY_MATTER
    inner[(resized[0] + resized[1] > 0.5) & (resized[1] > resized[0])] = WHITE_MATTER
    return classes


@cache
def _template() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Probability of grey and of white matter: coronal slices first, y from top to bottom."""
    from nilearn.datasets import load_mni152_gm_template, load_mni152_wm_template

    both = [load(resolution=1).get_fdata() for load in (load_mni152_gm_template, load_mni152_wm_template)]
    grey, white = (part.transpose(1, 2, 0)[:, ::-1] for part in both)
    return grey, white
