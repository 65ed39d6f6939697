"""A serial-section OCT volume whose truth is known: a folded brain in agarose."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import DTypeLike, NDArray

from xoctnorm.errors import raise_problems
from xoctnorm.phantom.anatomy import AGAROSE, EMPTY, GREY_MATTER, WHITE_MATTER, Waves, anatomy, draw_waves
from xoctnorm.phantom.parameters import parameter_problems

__all__ = ["AGAROSE", "EMPTY", "GREY_MATTER", "SPECULAR_LEVEL", "WHITE_MATTER", "make_phantom"]

SPECULAR_LEVEL = 20.0
"""Intensity of a specular spot, in units of full scale."""

_SPECULAR_SPOTS = 5
_SPECULAR_AREA = 0.005  # of the imaged field, all spots of a plane together
_TEXTURE = 0.06  # relative standard deviation of reflectivity within a class of tissue

# Each random stream has its own key, so that switching one effect on or off leaves the others as they were.
_ANATOMY, _GAIN, _JITTER, _SPECKLE, _SPECULAR = range(5)


def make_phantom(
    *,
    shape: tuple[int, int] = (128, 160),
    n_sections: int = 12,
    planes_per_section: int | Sequence[int] = 10,
    missing_sections: Sequence[int] = (),
    section_gain: float | Sequence[float] = 0.2,
    plane_jitter: float | Sequence[float] = 0.02,
    decay: float = 0.05,
    agarose: float = 0.06,
    grey: float = 0.2,
    white: float = 0.4,
    noise_floor: float = 0.01,
    looks: float | None = 6.0,
    specular_planes: Sequence[int] = (),
    margin: int = 0,
    voxel_size: tuple[float, float, float] = (10.0, 20.0, 20.0),
    dtype: DTypeLike = "float32",
    seed: int = 0,
) -> xr.Dataset:
    """Make a serial-section OCT volume together with every truth that it was made from.

    The linear intensity of a voxel of section ``s`` in plane ``z`` is::

        volume = (section_gain[s] * plane_jitter[z] * response * reflectivity + noise_floor) * speckle

    where ``response`` is ``depth_response[z] = exp(-decay * depth[z])`` on tissue and 1 on agarose, and
    ``speckle`` follows a gamma distribution of mean 1 and variance ``1 / looks``, independent between
    voxels. Specular spots replace the intensity by ``SPECULAR_LEVEL``; the margin is exactly 0.

    Parameters
    ----------
    shape : tuple of int
        Pixels along y and x, margin included. The field inside the margin has at least 16 × 16 pixels.
    n_sections : int
        Number of sections that were cut, lost ones included; labels are ``0`` to ``n_sections - 1``.
    planes_per_section : int or sequence of int
        Number of planes in each section; a sequence has one entry per section.
    missing_sections : sequence of int
        Labels of sections that were lost. Their planes are absent, but the anatomy goes on underneath:
        labels, z and anatomy jump. At least one section must be left.
    section_gain : float or sequence of float
        Standard deviation (at least 0) of the log of the gains, or the gains themselves (above 0), one per
        section.
    plane_jitter : float or sequence of float
        Standard deviation (at least 0) of the log of the jitter, or the factors themselves (above 0), one per
        plane.
    decay : float
        Decay of tissue per plane below the cut, at least 0. Agarose does not decay.
    agarose, grey, white : float
        Mean reflectivity of agarose, grey and white matter, 0 to 1, in fractions of full scale. Agarose is
        uniform; tissue has a weak, smooth texture.
    noise_floor : float
        Additive floor, 0 to 1, in fractions of full scale; neither gain nor depth acts on it.
    looks : float or None
        Number of looks, above 0: the speckle contrast is ``1 / sqrt(looks)``. None: no speckle.
    specular_planes : sequence of int
        Planes in which specular spots cover about 0.5 % of the field, far above full scale.
    margin : int
        Width in pixels of the empty border around the imaged field.
    voxel_size : tuple of float
        Spacing along z, y and x in micrometres, above 0.
    dtype : str or dtype
        ``"float16"``, ``"float32"`` or ``"float64"``: full scale is 1 and larger values are kept; ``"uint8"``
        or ``"uint16"``: full scale is the largest integer, values are rounded to nearest and saturate there.
    seed : int
        At least 0. What is random in a plane depends on the seed and on the number of the plane only.

    Returns
    -------
    xarray.Dataset
        ``volume(z, y, x)``, with coordinates ``z``, ``y``, ``x`` in micrometres and ``section(z)``, and its
        truth:

        - ``tissue_class(z, y, x)``, int8: 0 empty, 1 agarose, 2 grey matter, 3 white matter;
        - ``tissue_mask(z, y, x)`` and ``agarose_mask(z, y, x)``, bool: the same, as masks;
        - ``specular_mask(z, y, x)``, bool: the specular spots;
        - ``reflectivity(z, y, x)``, float32: what a perfect correction returns, up to one constant factor;
        - ``plane(z)``: number of the plane in the whole series; ``depth(z)``: planes below the cut, from 0;
        - ``section_gain(z)``, ``plane_jitter(z)``, ``depth_response(z)`` and the scalar ``noise_floor``.

        The attribute ``phantom_parameters`` holds all parameters as JSON.

    Raises
    ------
    InputError
        If any parameter is not as described; one message names all of them.

    Notes
    -----
    Planes are counted through the whole series, from 0, those of lost sections included; this holds for
    ``plane_jitter``, ``specular_planes`` and ``plane``.

    Examples
    --------
    >>> phantom = make_phantom(n_sections=4, planes_per_section=5, missing_sections=[2])
    >>> phantom["volume"].sizes
    Frozen({'z': 15, 'y': 128, 'x': 160})
    >>> [int(label) for label in np.unique(phantom["section"])]
    [0, 1, 3]
    >>> grey = phantom["volume"].where(phantom["tissue_class"] == GREY_MATTER).mean(["y", "x"])
    >>> bool(grey[4] < grey[0])  # the last plane of the first section is darker than its first
    True
    """
    parameters = dict(locals())
    parameters["dtype"] = getattr(dtype, "__name__", str(dtype))  # np.uint8 is as good as "uint8"
    raise_problems("make_phantom", parameter_problems(parameters))

    series = _lay_out(parameters)
    planes = np.flatnonzero(~np.isin(series.section, np.asarray(missing_sections, dtype=int)))
    section, depth = series.section[planes], series.depth[planes]

    volume_shape = (planes.size, *shape)
    volume = np.zeros(volume_shape, dtype)
    reflectivity = np.zeros(volume_shape, np.float32)
    tissue_class = np.full(volume_shape, EMPTY, np.int8)
    specular = np.zeros(volume_shape, bool)
    field = (slice(margin, shape[0] - margin), slice(margin, shape[1] - margin))
    for i, plane in enumerate(planes.tolist()):
        made = _make_plane(series, plane)
        volume[i][field] = made.intensity
        reflectivity[i][field] = made.reflectivity
        tissue_class[i][field] = made.tissue_class
        specular[i][field] = made.specular

    zyx = ("z", "y", "x")
    dz, dy, dx = voxel_size
    class_flags = {
        "flag_values": np.arange(4, dtype=np.int8),
        "flag_meanings": "empty agarose grey_matter white_matter",
    }
    coords = {
        "z": ("z", planes * float(dz), {"long_name": "position through the sections", "units": "um"}),
        "y": ("y", np.arange(shape[0]) * float(dy), {"long_name": "position along y", "units": "um"}),
        "x": ("x", np.arange(shape[1]) * float(dx), {"long_name": "position along x", "units": "um"}),
        "section": ("z", section, {"long_name": "label of the serial section"}),
    }

    def one(long_name: str) -> dict[str, str]:
        return {"long_name": long_name, "units": "1"}

    variables = {
        "volume": (zyx, volume, one("linear OCT intensity")),
        "tissue_class": (zyx, tissue_class, {"long_name": "true tissue class", **class_flags}),
        "tissue_mask": (zyx, tissue_class >= GREY_MATTER, {"long_name": "true tissue"}),
        "agarose_mask": (zyx, tissue_class == AGAROSE, {"long_name": "true agarose"}),
        "specular_mask": (zyx, specular, {"long_name": "specular spots"}),
        "reflectivity": (zyx, reflectivity, one("true reflectivity in fractions of full scale")),
        "plane": ("z", planes, one("number of the plane in the whole series")),
        "depth": ("z", depth, one("number of planes below the cut")),
        "section_gain": ("z", series.gain[section], one("true gain of the section")),
        "plane_jitter": ("z", series.jitter[planes], one("true jitter of the plane")),
        "depth_response": ("z", series.response[planes], one("true decay of tissue with depth")),
        "noise_floor": ((), float(noise_floor), one("true noise floor in fractions of full scale")),
    }
    record = json.dumps(parameters, default=lambda value: np.asarray(value).tolist())
    return xr.Dataset(variables, coords, {"title": "Serial-section OCT phantom", "phantom_parameters": record})


@dataclass(frozen=True)
class _Series:
    """The whole series, lost sections included: all that is needed to make any one of its planes."""

    seed: int
    field_shape: tuple[int, int]
    section: NDArray[np.int64]  # per plane
    depth: NDArray[np.int64]  # per plane
    gain: NDArray[np.float64]  # per section
    jitter: NDArray[np.float64]  # per plane
    response: NDArray[np.float64]  # per plane
    class_reflectivity: NDArray[np.float32]  # indexed by tissue class
    noise_floor: float
    looks: float | None
    specular_planes: frozenset[int]
    dtype: np.dtype[Any]
    waves: Mapping[str, Waves]


class _Plane(NamedTuple):
    """The imaged field of one plane, without the margin."""

    tissue_class: NDArray[np.int8]
    reflectivity: NDArray[np.float32]
    specular: NDArray[np.bool_]
    intensity: NDArray[Any]


def _rng(seed: int, stream: int, index: int = 0) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream, index)))


def _lay_out(parameters: Mapping[str, Any]) -> _Series:
    """Draw what belongs to the series: sizes of sections, gains, jitter and the waves of the anatomy."""
    p = parameters
    seed, n_sections = int(p["seed"]), int(p["n_sections"])
    sizes = np.broadcast_to(np.asarray(p["planes_per_section"], dtype=np.int64), n_sections)
    depth = np.concatenate([np.arange(size) for size in sizes])

    def factors(given: float | Sequence[float], stream: int, n: int) -> NDArray[np.float64]:
        if isinstance(given, Real):
            return np.exp([float(given) * _rng(seed, stream, i).standard_normal() for i in range(n)])
        return np.asarray(given, dtype=np.float64)

    return _Series(
        seed=seed,
        field_shape=(p["shape"][0] - 2 * p["margin"], p["shape"][1] - 2 * p["margin"]),
        section=np.repeat(np.arange(n_sections), sizes),
        depth=depth,
        gain=factors(p["section_gain"], _GAIN, n_sections),
        jitter=factors(p["plane_jitter"], _JITTER, depth.size),
        response=np.exp(-float(p["decay"]) * depth),
        class_reflectivity=np.array([0, p["agarose"], p["grey"], p["white"]], np.float32),
        noise_floor=float(p["noise_floor"]),
        looks=p["looks"],
        specular_planes=frozenset(p["specular_planes"]),
        dtype=np.dtype(p["dtype"]),
        waves=draw_waves(_rng(seed, _ANATOMY)),
    )


def _make_plane(series: _Series, plane: int) -> _Plane:
    """Make one plane from the series and its number alone, so that planes can be made in any order."""
    tissue_class, texture = anatomy(series.waves, series.field_shape, (plane + 0.5) / series.depth.size)
    tissue = tissue_class >= GREY_MATTER
    reflectivity = series.class_reflectivity[tissue_class]
    reflectivity[tissue] *= 1 + np.float32(_TEXTURE) * texture[tissue]

    # float() keeps the working precision that of the array: float64 for a float64 volume, float32 otherwise.
    brightness = float(series.gain[series.section[plane]] * series.jitter[plane])
    intensity = reflectivity.astype(np.result_type(np.float32, series.dtype))
    intensity[tissue] *= float(series.response[plane])
    intensity *= brightness
    intensity += series.noise_floor
    if series.looks is not None:
        # Always drawn in float32, so that volumes of different dtype show the same speckle.
        speckle = _rng(series.seed, _SPECKLE, plane).standard_gamma(series.looks, series.field_shape, np.float32)
        intensity *= speckle / np.float32(series.looks)
    specular = _specular_spots(series, plane)
    intensity[specular] = SPECULAR_LEVEL
    return _Plane(tissue_class, reflectivity, specular, _digitize(intensity, series.dtype))


def _specular_spots(series: _Series, plane: int) -> NDArray[np.bool_]:
    spots = np.zeros(series.field_shape, bool)
    if plane not in series.specular_planes:
        return spots
    rng = _rng(series.seed, _SPECULAR, plane)
    radius = math.sqrt(_SPECULAR_AREA * spots.size / _SPECULAR_SPOTS / math.pi)
    y, x = np.ogrid[: spots.shape[0], : spots.shape[1]]
    for _ in range(_SPECULAR_SPOTS):
        # Away from the border, or a spot could be cut down to next to nothing.
        centre_y, centre_x = (round(n * rng.uniform(0.1, 0.9)) for n in spots.shape)
        spots |= (y - centre_y) ** 2 + (x - centre_x) ** 2 <= radius**2
    return spots


def _digitize(intensity: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype.kind == "u":
        full_scale = np.iinfo(dtype).max
        intensity = np.rint(np.minimum(intensity, 1) * full_scale)
    return intensity.astype(dtype)
