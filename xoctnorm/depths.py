"""Depth of planes below the cut, and their position through the tissue, both counted in planes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xoctnorm.sections import Sections

Numbers = NDArray[np.float64]

_MOST_LENGTHS = 5  # depths may run to so many lengths of the longest section
_OFF_GRID = 0.25  # planes


def depth_of_planes(sections: Sections, given: Numbers | None) -> NDArray[np.int64]:
    """Depth of every plane, from 0: by the coordinate `depth` in any unit, else its place in its section."""
    if given is None:
        return np.arange(len(sections.index)) - sections.first_plane[sections.index]
    steps = _steps(given, sections)
    depth: NDArray[np.int64] = np.rint((given - given.min()) / steps).astype(np.int64)
    return depth


def position_of_planes(sections: Sections, given: Numbers | None) -> Numbers:
    """Position of every plane: by the coordinate `position` in any unit, else planes follow each other.

    A label that counts sections and is missing stands for a section of the usual size that was lost.
    """
    if given is not None:
        placed: Numbers = (given - given[0]) / _steps(given, sections)
        return placed
    lost = np.abs(np.diff(sections.position, prepend=sections.position[:1])) - 1
    lost[0] = 0
    gaps = np.cumsum(np.maximum(lost, 0)) * np.median(sections.n_planes)
    place: Numbers = np.arange(len(sections.index)) + gaps[sections.index]
    return place


def partial_first_section(depth: NDArray[np.int64], sections: Sections) -> int:
    """Planes that the first section lacks, compared with the others; 0 where it is whole, or nothing tells."""
    if len(sections) < 3:
        return 0
    return max(0, int(np.median(sections.n_planes[1:])) - int(sections.n_planes[0]))


def coordinate_problems(name: str, values: NDArray[np.generic]) -> list[str]:
    """What makes a coordinate `depth` or `position` useless."""
    if values.dtype.kind not in "iuf" or not np.isfinite(values.astype(float)).all():
        return [
            f"the coordinate {name!r} along z must be finite numbers: correct it, or drop it with "
            f"da.drop_vars({name!r})"
        ]
    return []


def depth_problems(depth: NDArray[np.int64], sections: Sections, given: Numbers | None) -> list[str]:
    """What makes depths useless: a range far beyond that of a section, or nothing that sections share."""
    longest = int(sections.n_planes.max())
    if depth.max() >= _MOST_LENGTHS * longest + 10:
        return [
            f"depth below the cut runs to plane {depth.max()}, the longest section has {longest}: depth starts anew at "
            "every cut; correct the coordinate 'depth', or first_depth="
        ]
    if given is None:
        return []
    within = np.diff(sections.index) == 0
    if within.any() and np.median(np.diff(given)[within]) < 0:
        return [
            "the coordinate 'depth' falls along z, and light comes from the cut: turn the volume round first, with "
            "da.isel(z=slice(None, None, -1)), and the result in the same way"
        ]
    if len(sections) < 2:
        return []
    seen = np.unique(np.stack([depth, sections.index]), axis=1)[0]
    if np.bincount(seen).max() < 2:
        return [
            "the coordinate 'depth' has no depth that two sections share: it has to start anew at every cut; call it "
            "'position' if it runs on"
        ]
    steps = (given - given.min()) / _steps(given, sections)
    away = float(np.abs(steps - np.rint(steps)).max())
    if away > _OFF_GRID:
        return [
            f"the coordinate 'depth' lies up to {away:.2f} plane spacings beside the planes of other sections: round "
            "it to the spacing of planes"
        ]
    return []


def _steps(values: Numbers, sections: Sections) -> float:
    """Usual step from plane to plane within sections."""
    within = np.diff(sections.index) == 0
    steps = np.abs(np.diff(values))[within]
    steps = steps[steps > 0]
    return float(np.median(steps)) if steps.size else 1.0
