"""What light does on its way: focus, attenuation, tilt of the cut, tiles, and the scale it is stored on."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xoctnorm.phantom.anatomy import GREY_MATTER, WHITE_MATTER


def depth_offset(tilt: Sequence[float], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Planes by which each pixel lies deeper below the cut than its highest corner does.

    Without tilt the shape is (1, 1), which broadcasts.
    """
    ty, tx = (float(planes) for planes in tilt)
    if ty == tx == 0:
        return np.zeros((1, 1))
    v, u = (np.linspace(0, 1, n) for n in shape)
    return (ty * v - min(ty, 0))[:, np.newaxis] + (tx * u - min(tx, 0))


def tile_gains(gains: Sequence[float], width: int) -> NDArray[np.float64]:
    """Gain of every column: one of the left half of the field, one of the right."""
    left, right = (float(gain) for gain in gains)
    return np.where(np.arange(width) < width // 2, left, right)


def instrument_response(
    depth: NDArray[np.float64], focus: float | NDArray[np.float64], rayleigh_range: float
) -> NDArray[np.float64]:
    """Confocal response: 1 in focus, a half one Rayleigh range above and below it."""
    return 1 / (1 + ((depth - focus) / rayleigh_range) ** 2)


def uniform_attenuation(
    tissue: NDArray[np.bool_], depth: NDArray[np.float64], decay: float, dtype: np.dtype[Any]
) -> NDArray[Any]:
    """One decay of all tissue, as if all above it were tissue too; none of agarose."""
    attenuation = np.ones(tissue.shape, dtype)
    attenuation[tissue] = np.broadcast_to(np.exp(-decay * depth), tissue.shape)[tissue]
    return attenuation


def path_attenuation(
    above: Sequence[NDArray[np.int8]], offset: NDArray[np.float64], decay: Sequence[float], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Attenuation along the path: through the offset, of the class of the first plane, and all planes above.

    `above` holds the classes from the first plane to the present one; the present one is not passed through.
    """
    per_plane = np.zeros(WHITE_MATTER + 1)
    per_plane[GREY_MATTER], per_plane[WHITE_MATTER] = decay
    path = per_plane[above[0]] * offset
    for tissue_class in above[:-1]:
        path += per_plane[tissue_class]
    attenuation: NDArray[Any] = np.exp(-path).astype(dtype)
    return attenuation


def stored(intensity: NDArray[Any], scale: str, dynamic_range: float, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Linear intensity on the scale and in the dtype of the volume."""
    if scale == "amplitude":
        intensity = np.sqrt(intensity)
    elif scale == "db":
        decibel = np.full_like(intensity, np.nan)
        np.log10(intensity, out=decibel, where=intensity > 0)
        intensity = 10 * decibel
    if dtype.kind == "u":
        if scale == "db":
            intensity = np.maximum(1 + np.nan_to_num(intensity, nan=-np.inf) / dynamic_range, 0)
        full_scale = np.iinfo(dtype).max
        intensity = np.rint(np.minimum(intensity, 1) * full_scale)
    return intensity.astype(dtype)
