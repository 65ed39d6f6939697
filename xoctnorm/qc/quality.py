"""Figures of merit of a labelled volume, alone or beside the one that it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm import progress
from xoctnorm.agarose import AgaroseMask, Mask, checked_agarose, labelled_agarose
from xoctnorm.checks import coverage_problems, same_coordinate, volume_problems
from xoctnorm.corrections.intensity import AUTO
from xoctnorm.depths import coordinate_problems, depth_of_planes, depth_problems
from xoctnorm.errors import collecting, raise_problems
from xoctnorm.fitting import coordinate_of_planes
from xoctnorm.kernels.backend import as_array
from xoctnorm.kernels.intensity import SCALES
from xoctnorm.matching import correction_problems, mismatches
from xoctnorm.qc.figures import Scene, figures_of, mask_figures, speckle_change
from xoctnorm.qc.labelled import Measured, dataset, mm_per_plane
from xoctnorm.qc.limits import Limit, chosen_limits
from xoctnorm.qc.reading import linearized, look, survey_ground
from xoctnorm.qc.recorded import Record, recorded_figures
from xoctnorm.recipes import attached_agarose
from xoctnorm.sections import Sections, find_sections, plane_dims
from xoctnorm.statistics import Survey
from xoctnorm.volume import Volume, extra_dims, volume_dims

_NO_SURVEY = Survey(np.empty((0, 0)), 0.0, 1.0, (), 0)


@dataclass(frozen=True)
class Asked:
    """Arguments of the call."""

    limits: Mapping[str, tuple[float, float] | None] | None = None
    agarose_mask: Mask | None = None
    noise_floor: float | None = None
    intensity: str = AUTO
    section: str = "section"


def quality(da: xr.DataArray, before: xr.DataArray | None, correction: xr.Dataset | None, asked: Asked) -> xr.Dataset:
    """Measure and judge a volume."""
    limits, sections, mask = _checked(da, before, correction, asked)
    record = Record.of(da, correction)
    further = extra_dims(da, asked.section)
    sizes = tuple(da.sizes[dim] for dim in further)
    parts: list[Measured] = []
    stages = 1 if before is None else 2
    total = (1 + stages) * len(sections.index) * int(np.prod(sizes))
    with progress.job("qc", total):
        for place in np.ndindex(sizes):
            at = dict(zip(further, place, strict=True))
            parts.append(_measured(da, before, record, sections, mask, limits, asked, at))
    parameters = {
        "limits": {name: list(pair) if pair is not None else None for name, pair in (asked.limits or {}).items()},
        "agarose_mask": None if asked.agarose_mask is None else f"<mask {np.shape(asked.agarose_mask)}>",
        "noise_floor": asked.noise_floor,
        "intensity": asked.intensity,
        "section": asked.section,
    }
    return dataset(da, before, parts, sections, limits, record, parameters, dict(zip(further, sizes, strict=True)))


def _checked(
    da: xr.DataArray, before: xr.DataArray | None, correction: xr.Dataset | None, asked: Asked
) -> tuple[dict[str, Limit], Sections, xr.DataArray | None]:
    """Limits, sections and mask; or one error with everything that is wrong."""
    problems = volume_problems(da)
    limits: dict[str, Limit] = {}
    with collecting(problems):
        limits = chosen_limits(asked.limits)
    if asked.intensity not in (AUTO, *SCALES):
        problems.append(f"intensity={asked.intensity!r}: needs one of {', '.join(repr(s) for s in (AUTO, *SCALES))}")
    floor = asked.noise_floor
    number = isinstance(floor, int | float | np.number) and not isinstance(floor, bool)
    if floor is not None and not (number and 0 <= floor < np.inf):
        problems.append(f"noise_floor={floor!r}: needs a number, 0 or more, in units of linear intensity, or None")
    if before is not None:
        problems += [f"before: {problem}" for problem in _before_problems(da, before)]
    if correction is not None:
        problems += correction_problems(correction)
        if not problems:
            problems += mismatches(da, correction, "position")
    raise_problems("qc", problems)
    with collecting(problems):
        sections = find_sections(da, asked.section)
    raise_problems("qc", problems)
    depth = coordinate_of_planes(da, "depth", asked.section)
    if depth is not None:
        problems += coordinate_problems("depth", depth)
        if not problems:
            problems += depth_problems(depth_of_planes(sections, depth), sections, depth)
        raise_problems("qc", problems)
    given = asked.agarose_mask if asked.agarose_mask is not None else attached_agarose(da)
    mask = None
    if given is not None:
        with collecting(problems):
            if asked.agarose_mask is None:
                mask = checked_agarose("agarose_mask", given, da, asked.section, sections)
            else:
                mask = labelled_agarose("agarose_mask", given, da, asked.section, sections)
                of_images = as_array(mask.transpose(..., "y", "x").data)
                raise_problems("agarose_mask", coverage_problems("agarose_mask", of_images))
        raise_problems("qc", problems)
    return limits, sections, mask


def _before_problems(da: xr.DataArray, before: xr.DataArray) -> list[str]:
    if not isinstance(before, xr.DataArray):
        return [f"needs a DataArray, the volume that was corrected, got {type(before).__name__}"]
    found = volume_problems(before)
    if not found and dict(before.sizes) != dict(da.sizes):
        sizes = (", ".join(f"{dim}: {size}" for dim, size in one.sizes.items()) for one in (before, da))
        found.append("its sizes are {}, those of the result {}: pass the volume that was corrected".format(*sizes))
    elif not found:
        found += [
            f"its {dim} coordinate is another than that of the result: pass the volume that was corrected, or "
            f"before.drop_vars({dim!r}) where the positions are the same"
            for dim in ("z", "y", "x")
            if dim in before.coords and dim in da.coords and not same_coordinate(before.coords[dim], da.coords[dim])
        ]
    return found


def _measured(
    da: xr.DataArray,
    before: xr.DataArray | None,
    record: Record,
    sections: Sections,
    mask: xr.DataArray | None,
    limits: Mapping[str, Limit],
    asked: Asked,
    at: Mapping[str, int],
) -> Measured:
    """Read one volume, and the one that it was made from, and measure both on the same pixels."""
    after = _volume(da, sections, mask, asked.section, at)
    processed = record.processed
    source, is_raw = (
        (after, not processed) if before is None else (_volume(before, sections, mask, asked.section, at), True)
    )
    intensity = record.intensity if asked.intensity == AUTO else asked.intensity
    ground, source, notes = survey_ground(source, intensity, not is_raw, record.blend, record.first_depth)
    floor = record.noise_floor(da, asked.section, at, asked.noise_floor)
    nothing = np.zeros(len(sections.index))
    volumes: list[tuple[Volume, NDArray[np.float64], NDArray[np.float64] | None]] = []
    if before is not None:
        volumes.append((source, nothing if floor is None else floor, floor))
    if processed:
        volumes.append((after, nothing, record.remaining_noise(da, asked.section, at, floor)))
    else:
        if before is not None:
            after, _ = linearized(replace(after, agarose=source.agarose), intensity)
        volumes.append((source if before is None else after, nothing if floor is None else floor, floor))
    stages, seen = [], None
    saturated = limits["clipped_high"].warning if "clipped_high" in limits else 0.01
    for number, (volume, still, noise) in enumerate(volumes):
        is_after = number == len(volumes) - 1
        seen = look(volume, ground, still)
        scene = Scene(
            noise if noise is not None and (noise > 0).any() else None,
            saturated,
            record.reference,
            mm_per_plane(da, sections),
            record.by_otsu and asked.agarose_mask is None,
            record.scaled and is_after,
            record.flattened and is_after,
        )
        stages.append(figures_of(seen, ground, scene))
    rest = mask_figures(ground)
    for more in (
        *([speckle_change(*stages, known=floor is not None or not record.without_noise)] if len(stages) == 2 else []),
        recorded_figures(da, record, sections, asked.section, at),
    ):
        rest.values.update(more.values)
        rest.judged.update(more.judged)
    return Measured(stages, rest, ground, notes)


def _volume(
    da: xr.DataArray, sections: Sections, mask: xr.DataArray | None, section: str, at: Mapping[str, int]
) -> Volume:
    data = da.variable.transpose(*volume_dims(da, section)).isel(at)
    agarose = None
    if mask is not None:
        planes = [dim for dim in plane_dims(da, section) if dim in mask.dims]
        part = mask.variable.isel({d: i for d, i in at.items() if d in mask.dims}).transpose(..., *planes, "y", "x")
        agarose = AgaroseMask(part.compute() if part.ndim == 2 else part, sections.index)
    return Volume(
        data,
        sections=sections,
        survey=_NO_SURVEY,
        agarose=agarose,
        units=None if da.attrs.get("units") is None else str(da.attrs["units"]),
        described=" ".join(str(part) for part in (da.name, da.attrs.get("long_name")) if part),
        depth=coordinate_of_planes(da, "depth", section),
    )
