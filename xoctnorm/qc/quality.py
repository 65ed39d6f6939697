"""Figures of merit of a labelled volume, alone or beside the one that it was made from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from xoctnorm import progress, provenance
from xoctnorm.agarose import SECTIONS, AgaroseMask, Mask, labelled_agarose
from xoctnorm.checks import coverage_problems, volume_problems
from xoctnorm.corrections.drift_tables import CLASS_NAMES
from xoctnorm.corrections.intensity import AUTO
from xoctnorm.errors import collecting, raise_problems
from xoctnorm.gpu import circumstance, host_problems
from xoctnorm.kernels.classes import BRIGHT, DARK
from xoctnorm.kernels.intensity import SCALES
from xoctnorm.qc.definitions import DEFINITIONS
from xoctnorm.qc.figures import PAIRS, PERCENTILES, PLANES, Figures, Scene, figures_of, mask_figures, speckle_change
from xoctnorm.qc.limits import STATUSES, Limit, chosen_limits
from xoctnorm.qc.reading import Ground, Seen, linearized, look, survey_ground
from xoctnorm.qc.recorded import Record, recorded_figures
from xoctnorm.qc.verdict import judged_attributes, overall
from xoctnorm.recipes import attached_agarose
from xoctnorm.sections import Sections, find_sections, plane_dims
from xoctnorm.statistics import Survey
from xoctnorm.volume import Volume, extra_dims, volume_dims

BEFORE, AFTER = "before", "after"
READS = {"classes": 1, "figures of each stage": 1, "classes again where intensity is not linear": 1}

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
    limits, sections, mask = _checked(da, before, asked)
    record = Record.of(da, correction)
    further = extra_dims(da, asked.section)
    sizes = tuple(da.sizes[dim] for dim in further)
    parts: list[_Measured] = []
    stages = 1 if before is None else 2
    total = (1 + stages) * len(sections.index) * int(np.prod(sizes))
    with progress.job("qc", total):
        for place in np.ndindex(sizes):
            at = dict(zip(further, place, strict=True))
            parts.append(_measured(da, before, record, sections, mask, limits, asked, at))
    return _dataset(da, before, parts, sections, limits, record, asked, dict(zip(further, sizes, strict=True)))


def _checked(
    da: xr.DataArray, before: xr.DataArray | None, asked: Asked
) -> tuple[dict[str, Limit], Sections, xr.DataArray | None]:
    """Limits, sections and mask; or one error with everything that is wrong."""
    problems = volume_problems(da)
    limits: dict[str, Limit] = {}
    with collecting(problems):
        limits = chosen_limits(asked.limits)
    if asked.intensity not in (AUTO, *SCALES):
        problems.append(f"intensity={asked.intensity!r}: needs one of {', '.join(repr(s) for s in (AUTO, *SCALES))}")
    floor = asked.noise_floor
    if floor is not None and not (isinstance(floor, int | float | np.number) and 0 <= floor < np.inf):
        problems.append(f"noise_floor={floor!r}: needs a number, 0 or more, in units of linear intensity, or None")
    if before is not None:
        problems += [f"before: {problem}" for problem in _before_problems(da, before)]
    problems += host_problems({"the volume": da} if before is None else {"the volume": da, "before": before})
    raise_problems("qc", problems)
    with collecting(problems):
        sections = find_sections(da, asked.section)
    raise_problems("qc", problems)
    given = asked.agarose_mask if asked.agarose_mask is not None else attached_agarose(da)
    mask = None
    if given is not None:
        with collecting(problems):
            mask = labelled_agarose("agarose_mask", given, da, asked.section, sections)
            if asked.agarose_mask is not None:
                raise_problems(
                    "agarose_mask", coverage_problems("agarose_mask", mask.transpose(..., "y", "x").to_numpy())
                )
        raise_problems("qc", problems)
    return limits, sections, mask


def _before_problems(da: xr.DataArray, before: xr.DataArray) -> list[str]:
    if not isinstance(before, xr.DataArray):
        return [f"needs a DataArray, the volume that was corrected, got {type(before).__name__}"]
    found = volume_problems(before)
    if not found and dict(before.sizes) != dict(da.sizes):
        sizes = (", ".join(f"{dim}: {size}" for dim, size in one.sizes.items()) for one in (before, da))
        found.append("its sizes are {}, those of the result {}: pass the volume that was corrected".format(*sizes))
    return found


@dataclass(frozen=True)
class _Measured:
    """What was found in one volume: stage by stage, and what belongs to no stage."""

    stages: list[Figures]
    rest: Figures
    ground: Ground
    notes: list[str]


def _measured(
    da: xr.DataArray,
    before: xr.DataArray | None,
    record: Record,
    sections: Sections,
    mask: xr.DataArray | None,
    limits: Mapping[str, Limit],
    asked: Asked,
    at: Mapping[str, int],
) -> _Measured:
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
            _mm_per_plane(da, sections),
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
    return _Measured(stages, rest, ground, notes)


def _volume(
    da: xr.DataArray, sections: Sections, mask: xr.DataArray | None, section: str, at: Mapping[str, int]
) -> Volume:
    data = da.variable.transpose(*volume_dims(da, section)).isel(at)
    agarose = None
    if mask is not None:
        part = mask.variable.isel({d: i for d, i in at.items() if d in mask.dims}).transpose(..., "y", "x")
        agarose = AgaroseMask(part.load() if part.chunks is None else part.compute(), sections.index)
    return Volume(
        data,
        sections=sections,
        survey=_NO_SURVEY,
        agarose=agarose,
        units=None if da.attrs.get("units") is None else str(da.attrs["units"]),
        described=" ".join(str(part) for part in (da.name, da.attrs.get("long_name")) if part),
        depth=_along_planes(da, "depth", section),
    )


def _along_planes(da: xr.DataArray, name: str, section: str) -> NDArray[np.float64] | None:
    """A coordinate for every plane, in plane order; None where it lies along anything else."""
    dims = plane_dims(da, section)
    if name not in da.coords or name in da.dims or set(da.coords[name].dims) != set(dims):
        return None
    values: NDArray[np.float64] = da.coords[name].transpose(*dims).to_numpy().astype(float).reshape(-1)
    return values


_MM = (
    {"m": 1e3, "mm": 1.0, "um": 1e-3, "µm": 1e-3, "μm": 1e-3, "nm": 1e-6}
    | {
        f"{prefix}{name}{s}": factor
        for prefix, factor in (("", 1e3), ("milli", 1.0), ("micro", 1e-3), ("nano", 1e-6))
        for name in ("meter", "metre")
        for s in ("", "s")
    }
    | {"micron": 1e-3, "microns": 1e-3}
)


def _mm_per_plane(da: xr.DataArray, sections: Sections) -> float:
    """Distance of neighbouring planes in millimetres; NaN where the z coordinate does not tell."""
    if "z" not in da.coords or da.coords["z"].dtype.kind not in "iuf" or da.sizes["z"] < 2:
        return np.nan
    steps = np.abs(np.diff(da.coords["z"].to_numpy().astype(float)))
    if len(sections.index) == da.sizes["z"] and (within := np.diff(sections.index) == 0).any():
        steps = steps[within]
    spacing = float(np.median(steps)) * _MM.get(str(da.coords["z"].attrs.get("units", "")).strip(), np.nan)
    return spacing if spacing > 0 else np.nan


def _dataset(
    da: xr.DataArray,
    before: xr.DataArray | None,
    parts: Sequence[_Measured],
    sections: Sections,
    limits: Mapping[str, Limit],
    record: Record,
    asked: Asked,
    further: Mapping[str, int],
) -> xr.Dataset:
    """All figures with their labels, statuses and the record."""
    planes = plane_dims(da, asked.section)
    lead, sizes = tuple(further), tuple(further.values())
    of_planes = tuple(da.sizes[dim] for dim in planes)
    variables: dict[str, xr.Variable] = {}
    judged: dict[str, float] = {}
    for name in DEFINITIONS:
        staged = name in parts[0].stages[0].values
        of_parts = (
            [[stage.values[name] for stage in part.stages] for part in parts]
            if staged
            else [[part.rest.values[name]] for part in parts if name in part.rest.values]
        )
        if not of_parts:
            continue
        dims = of_parts[0][0][0]
        stacked = np.array([[values for _, values in stages] for stages in of_parts])
        own = stacked.shape[2:]
        if dims[:1] == (PLANES,):
            dims, own = (*planes, *dims[1:]), (*of_planes, *own[1:])
        stacked = np.moveaxis(stacked.reshape(*sizes, stacked.shape[1], *own), len(sizes), 0)
        with_stage = staged and before is not None
        variables[name] = xr.Variable(
            (*(("stage",) if with_stage else ()), *lead, *dims), stacked if with_stage else stacked[0]
        )
        values = [
            figures.judged[name]
            for part in parts
            if name in (figures := part.stages[-1] if staged else part.rest).judged
        ]
        if values:
            limit = limits.get(name)
            judged[name] = values[0] if limit is None else max(values, key=lambda v: STATUSES.index(limit.status(v)))
    spacing = _mm_per_plane(da, sections)
    for name, variable in variables.items():
        definition = DEFINITIONS[name]
        units = definition.units
        if units == "intensity":
            units = str(da.attrs.get("units", "1"))
        if units == "dB/mm" and np.isnan(spacing):
            units = "dB/plane"
        variable.attrs = {
            "long_name": definition.long_name,
            **({"units": units} if variable.dtype.kind in "biuf" else {}),
            "comment": definition.comment,
            **judged_attributes(name, judged.get(name), limits.get(name), record.messages(name)),
        }
    qc = xr.Dataset(variables, _coords(da, before, variables, sections, asked.section, parts[0].ground))
    status, verdict = overall(qc)
    parameters = {
        "limits": {name: list(pair) if pair is not None else None for name, pair in (asked.limits or {}).items()},
        "agarose_mask": None if asked.agarose_mask is None else f"<mask {np.shape(asked.agarose_mask)}>",
        "noise_floor": asked.noise_floor,
        "intensity": asked.intensity,
        "section": asked.section,
    }
    notes = list(dict.fromkeys(note for part in parts for note in part.notes))
    step = provenance.new_step(
        "qc", parameters, [], provenance.identity(da), notes, circumstance(da.variable, use_gpu=False)
    )
    if before is not None:
        step["before"] = provenance.jsonable(provenance.identity(before))
    qc.attrs = {
        "status": status,
        "verdict": verdict,
        "limits": json.dumps(provenance.jsonable({name: [one.warning, one.error] for name, one in limits.items()})),
        "source": provenance.SOURCE,
        "history": provenance.history_line(step),
        provenance.ATTRIBUTE: provenance.record([*provenance.steps_of(da.attrs), step]),
    }
    return qc


def _coords(
    da: xr.DataArray,
    before: xr.DataArray | None,
    variables: Mapping[str, xr.Variable],
    sections: Sections,
    section: str,
    ground: Ground,
) -> dict[str, Any]:
    used = {dim for variable in variables.values() for dim in variable.dims}
    coords: dict[str, Any] = {
        SECTIONS: (SECTIONS, sections.label_values(), {"long_name": "label of the section"}),
        "tissue": ("tissue", np.array(CLASS_NAMES), {"long_name": "class"}),
        "pair": ("pair", np.array(PAIRS), {"long_name": "pair of classes"}),
        "percentile": ("percentile", np.array(PERCENTILES), {"long_name": "percentile", "units": "percent"}),
        "plane_depth": (
            "plane_depth",
            np.arange(int(ground.depth.max()) + 1),
            {"long_name": "depth below the cut, in planes", "units": "1"},
        ),
    }
    if before is not None:
        coords["stage"] = ("stage", np.array([BEFORE, AFTER]), {"long_name": "before or after the correction"})
    for dim in used:
        if dim in da.coords and not isinstance(da.indexes.get(dim), pd.MultiIndex):
            coord = da.coords[dim]
            attrs = {name: coord.attrs[name] for name in ("long_name", "units") if name in coord.attrs}
            coords[str(dim)] = (dim, coord.to_numpy(), attrs)
    if sections.explicit and section not in da.dims and section not in ("z", *coords):
        coords[section] = ("z", sections.label_values()[sections.index])
    return coords


__all__ = ["AFTER", "BEFORE", "BRIGHT", "DARK", "READS", "Asked", "Seen", "quality"]
