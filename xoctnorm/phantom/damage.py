"""What spoils planes and sections: specular spots, bubbles, tears, and lesions of the tissue."""

import math

import numpy as np
from numpy.typing import NDArray

from xoctnorm.phantom.series import Series, Stream, rng_of

_SPECULAR_SPOTS = 5
_SPECULAR_AREA = 0.005  # of the imaged field, all spots of a plane together
_BUBBLES = 4
_BUBBLE_AREA = 0.03  # of the imaged field, all bubbles of a plane together
_TORN = (0.2, 0.4)  # share of the imaged field that a tear takes, at least and at most


def specular_spots(series: Series, plane: int) -> NDArray[np.bool_]:
    """Small bright discs, if the plane is one of those that have them."""
    if plane not in series.specular_planes:
        return np.zeros(series.field_shape, bool)
    rng = rng_of(series.seed, Stream.SPECULAR, plane)
    return _discs(rng, series.field_shape, _SPECULAR_SPOTS, _SPECULAR_AREA)


def emptied(series: Series, section: int, plane: int | None) -> NDArray[np.bool_]:
    """Where there is nothing: beyond the tear of the section, and in the bubbles of the plane."""
    shape = series.field_shape
    empty = np.zeros(shape, bool)
    if section in series.torn_sections:
        rng = rng_of(series.seed, Stream.TEAR, section)
        angle, share = rng.uniform(0, 2 * math.pi), rng.uniform(*_TORN)
        v, u = (np.linspace(-1, 1, n) for n in shape)
        across = math.sin(angle) * v[:, np.newaxis] + math.cos(angle) * u
        empty |= across > np.quantile(across, 1 - share)
    if plane in series.bubble_planes and plane is not None:
        empty |= _discs(rng_of(series.seed, Stream.BUBBLES, plane), shape, _BUBBLES, _BUBBLE_AREA)
    return empty


def lesion_factor(series: Series, position: float) -> NDArray[np.float32]:
    """By how much lesions change the reflectivity of tissue at a position along z; 1 where there is none."""
    factor = np.ones(series.field_shape, np.float32)
    y, x = np.ogrid[: factor.shape[0], : factor.shape[1]]
    for lesion in series.lesions:
        (centre_z, centre_y, centre_x), (radius_z, radius) = lesion.centre, lesion.radii
        across = ((y - centre_y) ** 2 + (x - centre_x) ** 2) / radius**2
        factor[((position - centre_z) / radius_z) ** 2 + across <= 1] = lesion.factor
    return factor


def _discs(rng: np.random.Generator, shape: tuple[int, int], n: int, area: float) -> NDArray[np.bool_]:
    discs = np.zeros(shape, bool)
    radius = math.sqrt(area * discs.size / n / math.pi)
    y, x = np.ogrid[: shape[0], : shape[1]]
    for _ in range(n):
        # Away from the border, or a disc could be cut down to next to nothing.
        centre_y, centre_x = (round(size * rng.uniform(0.1, 0.9)) for size in shape)
        discs |= (y - centre_y) ** 2 + (x - centre_x) ** 2 <= radius**2
    return discs
