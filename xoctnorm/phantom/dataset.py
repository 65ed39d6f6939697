"""The dataset of a phantom: its volume and every truth behind it, with names and units."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm.phantom.anatomy import AGAROSE, EMPTY, GREY_MATTER
from xoctnorm.phantom.optics import instrument_response
from xoctnorm.phantom.plane import make_plane
from xoctnorm.phantom.series import Series

_ZYX = ("z", "y", "x")
_VOLUME_NAMES = {"linear": "linear OCT intensity", "amplitude": "OCT amplitude", "db": "OCT intensity in decibels"}


def make_dataset(series: Series, parameters: Mapping[str, Any]) -> xr.Dataset:
    """Make all planes that were not lost, and describe them."""
    planes = np.flatnonzero(~np.isin(series.section, np.asarray(parameters["missing_sections"], dtype=int)))
    shape = (planes.size, *parameters["shape"])
    margin = parameters["margin"]
    field = (slice(margin, shape[1] - margin), slice(margin, shape[2] - margin))
    decibels = series.intensity == "db" and series.dtype.kind == "f"
    arrays: dict[str, NDArray[Any]] = {
        "intensity": np.full(shape, np.nan if decibels else 0, series.dtype),
        "reflectivity": np.zeros(shape, np.float32),
        "attenuation": np.ones(shape, np.result_type(np.float32, series.dtype)),
        "tissue_class": np.full(shape, EMPTY, np.int8),
        "specular": np.zeros(shape, bool),
        "damage": np.zeros(shape, bool),
        "lesion": np.zeros(shape, bool),
    }
    for i, plane in enumerate(planes.tolist()):
        made = make_plane(series, plane)
        for name, array in arrays.items():
            array[i][field] = getattr(made, name)

    classes = arrays["tissue_class"]
    class_attrs = {
        "long_name": "true tissue class",
        "flag_values": np.arange(4, dtype=np.int8),
        "flag_meanings": "empty agarose grey_matter white_matter",
    }
    volume_attrs = {
        "long_name": _VOLUME_NAMES[series.intensity],
        "units": "dB" if decibels else "1",  # the counts of an integer volume are no decibels
    }
    variables = {
        "volume": (_ZYX, arrays["intensity"], volume_attrs),
        "tissue_class": (_ZYX, classes, class_attrs),
        "tissue_mask": (_ZYX, classes >= GREY_MATTER, {"long_name": "true tissue"}),
        "agarose_mask": (_ZYX, classes == AGAROSE, {"long_name": "true agarose"}),
        "specular_mask": (_ZYX, arrays["specular"], {"long_name": "specular spots"}),
        "damage_mask": (_ZYX, arrays["damage"], {"long_name": "tears and bubbles"}),
        "lesion_mask": (_ZYX, arrays["lesion"], {"long_name": "lesions"}),
        "reflectivity": (_ZYX, arrays["reflectivity"], _one("true reflectivity in fractions of full scale")),
        "attenuation": (_ZYX, arrays["attenuation"], _one("true attenuation down to the voxel")),
        **_factors(series, planes, field, shape),
    }
    return xr.Dataset(variables, _coords(series, planes, parameters))


def _factors(
    series: Series, planes: NDArray[np.int64], field: tuple[slice, slice], shape: tuple[int, int, int]
) -> dict[str, Any]:
    """What acts on whole planes, columns or pixels."""
    section, weight = series.section[planes], series.blend_weight[planes]
    offset = np.zeros(shape[1:])
    offset[field] = series.depth_offset
    tiles = np.ones(shape[2])
    tiles[field[1]] = series.tile_gain
    before = series.gain[np.maximum(section - 1, 0)]
    response = np.exp(-series.decay[0] * series.depth[planes])
    return {
        "plane": ("z", planes, _one("number of the plane in the whole series")),
        "depth": ("z", series.depth[planes], _one("number of planes below the cut")),
        "depth_offset": (("y", "x"), offset, _one("planes below the cut that tilt adds")),
        "section_gain": ("z", series.gain[section], _one("true gain of the section")),
        "plane_jitter": ("z", series.jitter[planes], _one("true jitter of the plane")),
        "tile_gain": ("x", tiles, _one("true gain of the tile")),
        "blend_weight": ("z", weight, _one("share of its own section in the plane")),
        "blended_gain": (
            "z",
            weight * series.gain[section] + (1 - weight) * before,
            _one("true gain of the sections in the plane"),
        ),
        "agarose_step": ("z", series.agarose_step[section], _one("brightness of agarose that tissue does not follow")),
        "depth_response": ("z", response, _one("true decay of tissue with depth")),
        "instrument_response": _instrument(series, planes, offset),
        "noise_floor": ((), series.noise_floor, _one("true noise floor in fractions of full scale")),
    }


def _instrument(series: Series, planes: NDArray[np.int64], offset: NDArray[np.float64]) -> tuple[Any, ...]:
    tilted = series.depth_offset.size > 1
    depth = series.depth[planes].astype(np.float64)
    focus = None if series.focus is None else series.focus[series.section[planes]]
    if tilted:
        depth = depth[:, np.newaxis, np.newaxis] + offset
        focus = None if focus is None else focus[:, np.newaxis, np.newaxis]
    response = np.ones(depth.shape) if focus is None else instrument_response(depth, focus, series.rayleigh_range)
    working = np.result_type(np.float32, series.dtype) if tilted else np.float64
    return _ZYX if tilted else "z", response.astype(working), _one("true response of the instrument to depth")


def _coords(series: Series, planes: NDArray[np.int64], parameters: Mapping[str, Any]) -> dict[str, Any]:
    dz, dy, dx = (float(size) for size in parameters["voxel_size"])
    ny, nx = parameters["shape"]
    coords = {
        "z": ("z", planes * dz, {"long_name": "position through the sections", "units": "um"}),
        "y": ("y", np.arange(ny) * dy, {"long_name": "position along y", "units": "um"}),
        "x": ("x", np.arange(nx) * dx, {"long_name": "position along x", "units": "um"}),
        "section": ("z", series.section[planes], {"long_name": "label of the serial section"}),
    }
    if series.n_positions < series.section.size:  # sections overlap, so that z is not the position any more
        position = series.position[planes] * dz
        coords["position"] = ("z", position, {"long_name": "true position in the sample", "units": "um"})
    return coords


def _one(long_name: str) -> dict[str, str]:
    return {"long_name": long_name, "units": "1"}
