"""A serial-section OCT volume whose truth is known: a folded brain in agarose."""

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from reprlib import repr as short_repr
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import DTypeLike, NDArray

EMPTY, AGAROSE, GREY_MATTER, WHITE_MATTER = range(4)
"""Values of ``tissue_class``."""

SPECULAR_LEVEL = 20.0
"""Intensity of a specular spot, in units of full scale."""

_DTYPES = ("uint8", "uint16", "float16", "float32", "float64")
_SMALLEST_FIELD = 16
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
    ValueError
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
    if problems := _problems(parameters):
        raise ValueError("The phantom can't be made:\n" + "\n".join(f"- {problem}" for problem in problems))

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


class _Waves(NamedTuple):
    """A smooth random function of z, y and x: a sum of waves, so that any plane can be had by itself."""

    frequency: NDArray[np.float64]  # (wave, axis), in radians
    phase: NDArray[np.float64]

    @classmethod
    def draw(cls, rng: np.random.Generator, n: int, cycles: float, cycles_z: float) -> "_Waves":
        """Draw waves with about `cycles` over the field, in all directions, and up to `cycles_z` along z."""
        direction = (np.arange(n) + rng.uniform(size=n)) * math.pi / n
        lateral = math.pi * cycles * rng.uniform(0.7, 1.3, n)  # the field has length 2
        along_z = 2 * math.pi * cycles_z * rng.uniform(-1, 1, n)
        frequency = np.stack([along_z, lateral * np.sin(direction), lateral * np.cos(direction)], axis=1)
        return cls(frequency, rng.uniform(0, 2 * math.pi, n))

    def at(self, t: float, v: NDArray[np.float64], u: NDArray[np.float64]) -> NDArray[np.float32]:
        """Values on the grid of `v` and `u`: mean 0, variance 1, never beyond sqrt(2 n)."""
        kz, ky, kx = self.frequency.T[:, :, np.newaxis]
        along_y = (self.phase[:, np.newaxis] + kz * t + ky * v).astype(np.float32)
        along_x = (kx * u).astype(np.float32)
        # cos(a + b), taken apart: a wave costs two outer products and no cosine per pixel. einsum without
        # optimization stays away from BLAS, whose sums may depend on the number of threads.
        amplitude = np.float32(math.sqrt(2 / len(self.phase)))
        values: NDArray[np.float32] = np.einsum("ky,kx->yx", np.cos(along_y), np.cos(along_x))
        values -= np.einsum("ky,kx->yx", np.sin(along_y), np.sin(along_x))
        return values * amplitude


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
    waves: Mapping[str, _Waves]


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

    rng = _rng(seed, _ANATOMY)
    waves = {
        "warp_y": _Waves.draw(rng, 6, cycles=1.0, cycles_z=0.6),
        "warp_x": _Waves.draw(rng, 6, cycles=1.0, cycles_z=0.6),
        "folds": _Waves.draw(rng, 12, cycles=4.0, cycles_z=0.8),
        "texture": _Waves.draw(rng, 12, cycles=5.0, cycles_z=1.5),
    }
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
        waves=waves,
    )


def _make_plane(series: _Series, plane: int) -> _Plane:
    """Make one plane from the series and its number alone, so that planes can be made in any order."""
    tissue_class, texture = _anatomy(series, plane)
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


def _anatomy(series: _Series, plane: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Tissue class and texture: two fused hemispheres, folded cortex, white matter, deep grey nuclei."""
    t = (plane + 0.5) / series.depth.size
    v, u = ((2 * np.arange(n) + 1) / n - 1 for n in series.field_shape)  # -1 to 1, at pixel centres
    wave = {name: waves.at(t, v, u) for name, waves in series.waves.items()}

    # The warp of 6 waves stays below 0.11, the hemispheres within 0.82: the brain can't touch the border.
    scale = 0.55 + 0.45 * math.sin(math.pi * t)
    side = np.abs(u.astype(np.float32) + 0.03 * wave["warp_x"]) / scale
    up = (v.astype(np.float32)[:, np.newaxis] + 0.03 * wave["warp_y"]) / scale
    hemisphere = 1 - np.hypot((side - 0.32) / 0.5, (up + 0.12) / 0.66)
    stem = 1 - np.hypot(side / 0.42, (up - 0.22) / 0.5)
    inside = np.maximum(hemisphere, stem)  # 0 at the surface, 1 deep inside

    sulci = np.exp(-((wave["folds"] / 0.3) ** 2))
    ridges = np.minimum(np.abs(wave["folds"]), 1.5)
    nuclei = np.hypot((side - 0.25) / 0.17, (up - 0.1) / 0.2) < 1 + 0.1 * wave["texture"]
    tissue_class = np.full(series.field_shape, AGAROSE, np.int8)
    tissue_class[inside > 0.14 * sulci] = GREY_MATTER
    tissue_class[(inside > 0.44 - 0.18 * ridges) & ~nuclei] = WHITE_MATTER
    return tissue_class, wave["texture"]


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


def _problems(parameters: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with the parameters: name, value, and what is accepted."""
    p = parameters
    # What one parameter allows may depend on another; where that one is wrong itself, less is checked.
    n = int(p["n_sections"]) if _is_integer(p["n_sections"], 1) else None
    sizes, missing, margin = p["planes_per_section"], p["missing_sections"], p["margin"]
    sizes_ok = _is_integer(sizes, 1) or _is_list(sizes, _is_integer, 1, n)
    missing_ok = _is_list(missing, _is_integer, 0) and (n is None or set(missing) < set(range(n)))
    specular_ok = _is_list(p["specular_planes"], _is_integer, 0)
    n_planes = None
    if n is not None and sizes_ok:
        section = np.repeat(np.arange(n), np.broadcast_to(sizes, n))
        n_planes = section.size
        if missing_ok and specular_ok:
            specular_ok = set(p["specular_planes"]) <= set(np.flatnonzero(~np.isin(section, [*missing])))
    smallest = _SMALLEST_FIELD + (2 * margin if _is_integer(margin, 0) else 0)

    def number_or_one_per(what: str, name: str, length: int | None) -> tuple[bool, str]:
        ok = _is_number(p[name], 0) or _is_list(p[name], _is_positive, 0, length)
        count = "" if length is None else f" ({length})"
        return ok, f"a number of at least 0, or a sequence of numbers above 0, one per {what}{count}"

    sizes_accepted = "an integer of at least 1, or a sequence of them, one per section"
    share = "a number from 0 to 1"
    rules = {
        "shape": (_is_list(p["shape"], _is_integer, smallest, 2), f"(y, x), integers of at least {smallest}"),
        "n_sections": (n is not None, "an integer of at least 1"),
        "planes_per_section": (sizes_ok, sizes_accepted + ("" if n is None else f" ({n})")),
        "missing_sections": (
            missing_ok,
            "a sequence of labels from 0 to n_sections - 1 that leaves a section",
        ),
        "section_gain": number_or_one_per("section", "section_gain", n),
        "plane_jitter": number_or_one_per("plane of the series", "plane_jitter", n_planes),
        "decay": (_is_number(p["decay"], 0), "a number of at least 0"),
        **{name: (_is_number(p[name], 0, 1), share) for name in ("agarose", "grey", "white", "noise_floor")},
        "looks": (p["looks"] is None or _is_positive(p["looks"], 0), "a number above 0, or None"),
        "specular_planes": (
            specular_ok,
            "a sequence of planes of the series, from 0, none in a missing section",
        ),
        "margin": (_is_integer(margin, 0), "an integer of at least 0"),
        "voxel_size": (_is_list(p["voxel_size"], _is_positive, 0, 3), "(z, y, x), numbers above 0"),
        "dtype": (p["dtype"] in _DTYPES, f"one of {', '.join(_DTYPES)}"),
        "seed": (_is_integer(p["seed"], 0), "an integer of at least 0"),
    }
    return [f"{name}={short_repr(p[name])}: must be {accepted}" for name, (ok, accepted) in rules.items() if not ok]


def _is_integer(value: object, least: float) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def _is_number(value: object, least: float, most: float = sys.float_info.max) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and least <= float(value) <= most


def _is_positive(value: object, least: float) -> bool:
    return _is_number(value, least) and value != 0


def _is_list(value: object, is_item: Callable[[object, float], bool], least: float, length: int | None = None) -> bool:
    if not isinstance(value, Sequence | np.ndarray) or np.shape(value) == ():
        return False
    return length in (None, len(value)) and all(is_item(item, least) for item in value)
