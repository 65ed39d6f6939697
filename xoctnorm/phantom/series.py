"""The series of sections behind a phantom: all that is drawn once, before any plane is made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xoctnorm.phantom.anatomy import GREY_MATTER, Anatomy, WavyBrain
from xoctnorm.phantom.optics import depth_offset, tile_gains

_LESION_FACTORS = (1.8, 0.4)  # bright and dark in turn


class Stream(IntEnum):
    """Each random stream has its own key: switching one effect on or off leaves the others as they were."""

    ANATOMY = 0
    GAIN = 1
    JITTER = 2
    SPECKLE = 3
    SPECULAR = 4
    FOCUS = 5
    AGAROSE = 6
    LESION = 7
    TEAR = 8
    BUBBLES = 9
    OTHER_SPECKLE = 10


class Lesion(NamedTuple):
    """A spheroid whose tissue reflects `factor` times as much."""

    centre: tuple[float, float, float]  # position in planes, y and x in pixels of the field
    radii: tuple[float, float]  # along z, and across
    factor: float


@dataclass(frozen=True)
class Series:
    """The whole series, lost sections included: all that is needed to make any one of its planes."""

    seed: int
    field_shape: tuple[int, int]
    section: NDArray[np.int64]  # per plane
    depth: NDArray[np.int64]  # per plane
    first_plane: NDArray[np.int64]  # per section
    start: NDArray[np.int64]  # per section: position of its first plane, in planes
    n_positions: int
    gain: NDArray[np.float64]  # per section
    jitter: NDArray[np.float64]  # per plane
    decay: tuple[float, ...]  # per plane below the cut: one of all tissue, or those of grey and white matter
    focus: NDArray[np.float64] | None  # per section
    rayleigh_range: float
    depth_offset: NDArray[np.float64]  # of the field; (1, 1) where the cut is not tilted
    tile_gain: NDArray[np.float64]  # per column of the field
    blend_weight: NDArray[np.float64]  # per plane: share of its own section
    class_reflectivity: NDArray[np.float32]  # indexed by tissue class
    agarose_step: NDArray[np.float64]  # per section
    noise_floor: float
    looks: float | None
    intensity: str
    dynamic_range: float
    specular_planes: frozenset[int]
    bubble_planes: frozenset[int]
    torn_sections: frozenset[int]
    no_agarose_sections: frozenset[int]
    lesions: tuple[Lesion, ...]
    dtype: np.dtype[Any]
    anatomy: Anatomy

    @property
    def position(self) -> NDArray[np.int64]:
        """True position of every plane, in planes."""
        return self.start[self.section] + self.depth


def rng_of(seed: int, stream: Stream, index: int = 0) -> np.random.Generator:
    """The generator of one stream, of one plane or section."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(int(stream), index)))


def lay_out(parameters: Mapping[str, Any], given: Anatomy | None = None) -> Series:
    """Draw what belongs to the series: sizes of sections, gains, jitter, focus, lesions and the anatomy."""
    p = parameters
    seed, n_sections, overlap = int(p["seed"]), int(p["n_sections"]), int(p["overlap"])
    sizes = np.broadcast_to(np.asarray(p["planes_per_section"], dtype=np.int64), n_sections)
    section = np.repeat(np.arange(n_sections), sizes)
    depth = np.concatenate([np.arange(size) for size in sizes])
    first_plane = np.cumsum(sizes) - sizes
    n_positions = depth.size - overlap * (n_sections - 1)
    field_shape = (p["shape"][0] - 2 * p["margin"], p["shape"][1] - 2 * p["margin"])
    anatomy = WavyBrain.draw(rng_of(seed, Stream.ANATOMY)) if given is None else given

    def normal(stream: Stream, n: int) -> list[float]:
        return [rng_of(seed, stream, i).standard_normal() for i in range(n)]

    def factors(given: float | Sequence[float], stream: Stream, n: int) -> NDArray[np.float64]:
        if isinstance(given, Real):
            return np.exp([float(given) * draw for draw in normal(stream, n)])
        return np.asarray(given, dtype=np.float64)

    focus = None
    if p["focus"] is not None:
        focus = float(p["focus"]) + float(p["focus_wander"]) * np.array(normal(Stream.FOCUS, n_sections))
    return Series(
        seed=seed,
        field_shape=field_shape,
        section=section,
        depth=depth,
        first_plane=first_plane,
        start=first_plane - overlap * np.arange(n_sections),
        n_positions=n_positions,
        gain=factors(p["section_gain"], Stream.GAIN, n_sections),
        jitter=factors(p["plane_jitter"], Stream.JITTER, depth.size),
        decay=tuple(float(value) for value in np.atleast_1d(p["decay"])),
        focus=focus,
        rayleigh_range=1.0 if focus is None else float(p["rayleigh_range"]),
        depth_offset=depth_offset(p["tilt"], field_shape),
        tile_gain=tile_gains(p["tile_gain"], field_shape[1]),
        blend_weight=_blend_weight(section, depth, p["blend"], p["missing_sections"]),
        class_reflectivity=np.array([0, p["agarose"], p["grey"], p["white"]], np.float32),
        agarose_step=factors(p["agarose_steps"], Stream.AGAROSE, n_sections),
        noise_floor=float(p["noise_floor"]),
        looks=p["looks"],
        intensity=p["intensity"],
        dynamic_range=float(p["dynamic_range"]),
        specular_planes=frozenset(p["specular_planes"]),
        bubble_planes=frozenset(p["bubble_planes"]),
        torn_sections=frozenset(p["torn_sections"]),
        no_agarose_sections=frozenset(p["no_agarose_sections"]),
        lesions=tuple(_draw_lesion(seed, i, anatomy, field_shape, n_positions) for i in range(p["lesions"])),
        dtype=np.dtype(p["dtype"]),
        anatomy=anatomy,
    )


def _blend_weight(
    section: NDArray[np.int64], depth: NDArray[np.int64], blend: int, missing: Sequence[int]
) -> NDArray[np.float64]:
    """Share of its own section in every plane: rises linearly over the first `blend` planes after a cut."""
    alone = (section == 0) | np.isin(section - 1, np.asarray(missing, dtype=int))
    return np.where(alone | (depth >= blend), 1.0, (depth + 1) / (blend + 1))


def _draw_lesion(seed: int, index: int, anatomy: Anatomy, shape: tuple[int, int], n_positions: int) -> Lesion:
    rng = rng_of(seed, Stream.LESION, index)
    position = rng.uniform(0, n_positions - 1)
    tissue = np.flatnonzero(anatomy(shape, (position + 0.5) / n_positions)[0] >= GREY_MATTER)
    among = tissue if tissue.size else np.arange(shape[0] * shape[1])
    y, x = divmod(int(rng.choice(among)), shape[1])
    return Lesion(
        (position, y, x), (rng.uniform(2, 5), rng.uniform(0.06, 0.12) * min(shape)), _LESION_FACTORS[index % 2]
    )
