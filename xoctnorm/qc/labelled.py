"""Figures with their labels, statuses and record."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from xoctnorm import provenance
from xoctnorm.agarose import SECTIONS
from xoctnorm.corrections.drift_tables import CLASS_NAMES
from xoctnorm.gpu import circumstance
from xoctnorm.qc.definitions import DEFINITIONS
from xoctnorm.qc.figures import PAIRS, PERCENTILES, PLANES, Figures
from xoctnorm.qc.limits import STATUSES, Limit
from xoctnorm.qc.reading import Ground
from xoctnorm.qc.recorded import Record
from xoctnorm.qc.verdict import judged_attributes, overall
from xoctnorm.sections import Sections, plane_dims
from xoctnorm.text import escaped

BEFORE, AFTER = "before", "after"

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


@dataclass(frozen=True)
class Measured:
    """What was found in one volume: stage by stage, and what belongs to no stage."""

    stages: list[Figures]
    rest: Figures
    ground: Ground
    notes: list[str]


def mm_per_plane(da: xr.DataArray, sections: Sections) -> float:
    """Distance of neighbouring planes in millimetres; NaN where the z coordinate does not tell."""
    if "z" not in da.coords or da.coords["z"].dtype.kind not in "iuf" or da.sizes["z"] < 2:
        return np.nan
    steps = np.abs(np.diff(da.coords["z"].to_numpy().astype(float)))
    if len(sections.index) == da.sizes["z"] and (within := np.diff(sections.index) == 0).any():
        steps = steps[within]
    spacing = float(np.median(steps)) * _MM.get(str(da.coords["z"].attrs.get("units", "")).strip(), np.nan)
    return spacing if spacing > 0 else np.nan


def dataset(
    da: xr.DataArray,
    before: xr.DataArray | None,
    parts: Sequence[Measured],
    sections: Sections,
    limits: Mapping[str, Limit],
    record: Record,
    parameters: Mapping[str, Any],
    further: Mapping[str, int],
) -> xr.Dataset:
    """All figures with their labels, statuses and the record."""
    planes = plane_dims(da, parameters["section"])
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
    spacing = mm_per_plane(da, sections)
    for name, variable in variables.items():
        definition = DEFINITIONS[name]
        units = definition.units
        if units == "intensity":
            units = escaped(str(da.attrs.get("units", "1")))
        if units == "dB/mm" and np.isnan(spacing):
            units = "dB/plane"
        variable.attrs = {
            "long_name": definition.long_name,
            **({"units": units} if variable.dtype.kind in "biuf" else {}),
            "comment": definition.comment,
            **judged_attributes(name, judged.get(name), limits.get(name), record.messages(name)),
        }
    qc = xr.Dataset(variables, _coords(da, before, variables, sections, parameters["section"], parts[0].ground))
    status, verdict = overall(qc)
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
            attrs = {name: escaped(str(coord.attrs[name])) for name in ("long_name", "units") if name in coord.attrs}
            coords[str(dim)] = (dim, coord.to_numpy(), attrs)
    if sections.explicit and section not in da.dims and section not in ("z", *coords):
        coords[section] = ("z", sections.label_values()[sections.index])
    return coords
