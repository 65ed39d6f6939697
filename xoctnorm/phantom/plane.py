"""One plane of a phantom, made from the series and its number alone: planes can be made in any order."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xoctnorm.phantom.anatomy import AGAROSE, EMPTY, GREY_MATTER
from xoctnorm.phantom.damage import emptied, lesion_factor, specular_spots
from xoctnorm.phantom.optics import instrument_response, path_attenuation, stored, uniform_attenuation
from xoctnorm.phantom.series import Series, Stream, rng_of

SPECULAR_LEVEL = 20.0
"""Linear intensity of a specular spot, in units of full scale."""

_TEXTURE = 0.06  # relative standard deviation of reflectivity within a class of tissue


class Plane(NamedTuple):
    """The imaged field of one plane, without the margin."""

    tissue_class: NDArray[np.int8]
    reflectivity: NDArray[np.float32]
    attenuation: NDArray[Any]
    specular: NDArray[np.bool_]
    damage: NDArray[np.bool_]
    lesion: NDArray[np.bool_]
    intensity: NDArray[Any]


class _Light(NamedTuple):
    """What one section sends back from one depth, before noise floor and speckle."""

    tissue_class: NDArray[np.int8]
    reflectivity: NDArray[np.float32]
    attenuation: NDArray[Any]
    lesion: NDArray[np.bool_]
    signal: NDArray[Any]


def make_plane(series: Series, plane: int) -> Plane:
    """Make one plane; where sections are blended, from the light of both."""
    section, depth = int(series.section[plane]), int(series.depth[plane])
    own = _light(series, section, depth, jitter=float(series.jitter[plane]))
    intensity = _with_noise(series, own.signal, Stream.SPECKLE, plane)
    weight = float(series.blend_weight[plane])
    if weight < 1:
        # The section before, where it is as deep as this position.
        depth_before = int(series.position[plane] - series.start[section - 1])
        before = _light(series, section - 1, depth_before, jitter=float(series.jitter[plane]))
        intensity *= weight
        intensity += (1 - weight) * _with_noise(series, before.signal, Stream.OTHER_SPECKLE, plane)
    specular = specular_spots(series, plane)
    intensity[specular] = SPECULAR_LEVEL
    return Plane(
        own.tissue_class,
        own.reflectivity,
        own.attenuation,
        specular,
        emptied(series, section, plane),
        own.lesion,
        stored(intensity, series.intensity, series.dynamic_range, series.dtype),
    )


def _light(series: Series, section: int, depth: int, jitter: float) -> _Light:
    tissue_class, texture = _classes(series, section, depth)
    tissue = tissue_class >= GREY_MATTER
    reflectivity = series.class_reflectivity[tissue_class]
    reflectivity[tissue] *= 1 + np.float32(_TEXTURE) * texture[tissue]
    lesion = lesion_factor(series, float(series.start[section] + depth))
    reflectivity[tissue] *= lesion[tissue]

    # Factors are cast, and float() used, to keep the working precision: float64 for a float64 volume, else float32.
    working = np.result_type(np.float32, series.dtype)
    below_cut = depth + series.depth_offset
    if len(series.decay) == 1:
        attenuation = uniform_attenuation(tissue, below_cut, series.decay[0], working)
    else:
        above = [*(_classes(series, section, d)[0] for d in range(depth)), tissue_class]
        attenuation = path_attenuation(above, series.depth_offset, series.decay, working)
    signal = reflectivity.astype(working)
    signal *= attenuation
    if series.focus is not None:
        signal *= instrument_response(below_cut, series.focus[section], series.rayleigh_range).astype(working)
    signal *= series.tile_gain.astype(working)
    signal[tissue_class == AGAROSE] *= float(series.agarose_step[section])
    signal *= float(series.gain[section] * jitter)
    return _Light(tissue_class, reflectivity, attenuation, tissue & (lesion != 1), signal)


def _classes(series: Series, section: int, depth: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Classes and texture as one section shows them; `depth` may lie below its last stacked plane."""
    t = float(series.start[section] + depth + 0.5) / series.n_positions
    tissue_class, texture = series.anatomy(series.field_shape, t)
    if section in series.no_agarose_sections:
        tissue_class[tissue_class == AGAROSE] = GREY_MATTER
    plane = int(series.first_plane[section]) + depth
    stacked = plane < series.section.size and series.section[plane] == section
    tissue_class[emptied(series, section, plane if stacked else None)] = EMPTY
    return tissue_class, texture


def _with_noise(series: Series, signal: NDArray[Any], stream: Stream, plane: int) -> NDArray[Any]:
    intensity = signal + series.noise_floor
    if series.looks is not None:
        # Always drawn in float32, so that volumes of different dtype show the same speckle.
        speckle = rng_of(series.seed, stream, plane).standard_gamma(series.looks, series.field_shape, np.float32)
        intensity *= speckle / np.float32(series.looks)
    return intensity
