"""What measures need to know of a phantom, as arrays."""

import json
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm.phantom import AGAROSE, GREY_MATTER, WHITE_MATTER

Float = NDArray[np.float64]


class Truth(NamedTuple):
    """The truth of a phantom; arrays of planes, and of volumes in the order z, y, x.

    Attributes
    ----------
    section : ndarray
        Number of the section of each plane, from 0, without gaps.
    follows : ndarray of bool
        Per plane: whether the plane before was imaged directly above it.
    gain : ndarray
        Section gain times jitter of each plane; in blended planes that of the blend.
    response : ndarray
        Decay of grey matter times response of the instrument in each plane.
    pure : ndarray of bool
        Per plane: whether it is no blend of two sections.
    linear : ndarray
        Linear intensity of the input volume.
    expected : ndarray
        What the true gains and the true noise floor make of it, with the speckle of the input.
    tissue_class : ndarray
        True class, 0 (empty) where nothing is measured: specular, damaged, saturated and missing voxels.
    """

    section: NDArray[np.int64]
    follows: NDArray[np.bool_]
    gain: Float
    response: Float
    pure: NDArray[np.bool_]
    linear: Float
    expected: Float
    tissue_class: NDArray[np.int8]


def truth_of(phantom: xr.Dataset) -> Truth:
    """Collect the truth of a phantom.

    With signal *S*, noise floor *N* and the true gains *g j*, the input is ``(S + N) · speckle`` and the expected
    result ``(S / (g j) + N) · speckle − N``.
    """
    parameters: dict[str, Any] = json.loads(phantom.attrs["phantom_parameters"])
    linear, saturated = linear_intensity(phantom["volume"].to_numpy(), parameters)
    floor = float(phantom["noise_floor"])
    gain = (phantom["section_gain"] * phantom["plane_jitter"]).to_numpy()
    tissue_class = phantom["tissue_class"].to_numpy()

    agarose_step = phantom["agarose_step"].to_numpy()[:, np.newaxis, np.newaxis]
    unmoved = phantom["reflectivity"].astype(np.float64) * phantom["attenuation"] * phantom["tile_gain"]
    clean: Float = (unmoved * phantom["instrument_response"]).transpose("z", "y", "x").to_numpy()
    clean *= np.where(tissue_class == AGAROSE, agarose_step, 1.0)
    signal = clean * gain[:, np.newaxis, np.newaxis]
    with np.errstate(invalid="ignore", divide="ignore"):  # empty places of a phantom without noise
        speckle = linear / (signal + floor)

    lost = phantom["specular_mask"].to_numpy() | phantom["damage_mask"].to_numpy() | saturated | ~np.isfinite(speckle)
    plane = phantom["plane"].to_numpy()
    return Truth(
        section=np.unique(phantom["section"].to_numpy(), return_inverse=True)[1],
        follows=np.diff(plane, prepend=plane[0] - 2) == 1,
        gain=(phantom["blended_gain"] * phantom["plane_jitter"]).to_numpy(),
        response=response_of(phantom),
        pure=phantom["blend_weight"].to_numpy() == 1,
        linear=linear,
        expected=(clean + floor) * speckle - floor,
        tissue_class=np.where(lost, 0, tissue_class).astype(np.int8),
    )


def linear_intensity(values: NDArray[Any], parameters: dict[str, Any]) -> tuple[Float, NDArray[np.bool_]]:
    """Linear intensity in fractions of full scale, and where the stored value is saturated."""
    stored = values.astype(np.float64)
    saturated = np.zeros(values.shape, bool)
    if values.dtype.kind == "u":
        saturated = values == np.iinfo(values.dtype).max
        stored /= np.iinfo(values.dtype).max
        if parameters["intensity"] == "db":
            stored = (stored - 1) * parameters["dynamic_range"]
    if parameters["intensity"] == "amplitude":
        stored = stored**2
    elif parameters["intensity"] == "db":
        stored = 10 ** (stored / 10)
    return stored, saturated


def response_of(phantom: xr.Dataset) -> Float:
    """Decay of grey matter times response of the instrument per plane; the mean over tissue where cuts are tilted."""
    instrument = phantom["instrument_response"]
    if instrument.ndim > 1:
        instrument = instrument.where(phantom["tissue_class"] >= GREY_MATTER).mean(["y", "x"])
    return np.asarray((phantom["depth_response"] * instrument).to_numpy(), np.float64)


def is_tissue(tissue_class: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Whether voxels are grey or white matter."""
    return np.asarray((tissue_class == GREY_MATTER) | (tissue_class == WHITE_MATTER))
