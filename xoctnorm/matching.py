"""Whether a correction is whole, and whether its planes are those of a volume."""

from __future__ import annotations

import json

import numpy as np
import xarray as xr

from xoctnorm import provenance
from xoctnorm.checks import rounded_together, same_coordinate
from xoctnorm.corrections import BY_NAME
from xoctnorm.errors import listed
from xoctnorm.kernels.intensity import SCALES
from xoctnorm.metadata import TABLE_DIMS
from xoctnorm.sections import find_sections, plain_labels, plane_dims

MATCHES = ("coordinates", "position")


def correction_problems(correction: xr.Dataset) -> list[str]:
    """What makes a Dataset no correction, or a damaged one."""
    steps = provenance.steps_of(correction.attrs) if isinstance(correction, xr.Dataset) else []
    if not steps:
        return [
            f"the correction is a {type(correction).__name__} without a record that this version can read: pass the "
            f"Dataset that da.octnorm.fit() returned, with its attribute {provenance.ATTRIBUTE!r}{_newer(correction)}"
        ]
    step = steps[-1]
    names = [one["name"] for one in step["corrections"]]
    unknown = [name for name in names if name not in BY_NAME]
    if unknown:
        return [f"the correction {listed(unknown)} is unknown to this version of xoctnorm: a newer one made it"]
    chosen = [BY_NAME[one["name"]](**one["parameters"]) for one in step["corrections"]]
    needed = ["section_index", *(variable for one in chosen for variable in one.needed())]
    missing = [repr(name) for name in needed if name not in correction.variables]
    if missing:
        return [f"the correction lacks {listed(missing)}, which {listed(names)} needs: fit it again"]
    problems = []
    dims = set(step["section"]["dims"])
    for name in needed:
        variable = correction[name]
        if name in _PER_PLANE and not dims <= set(variable.dims):
            problems.append(f"{name} of the correction has dims {variable.dims}: {tuple(dims)} are needed")
        values = variable.to_numpy()
        if name in _POSITIVE and not (np.isfinite(values) & (values > 0)).all():
            problems.append(f"{name} of the correction has values that are not finite and above 0: correct them")
        if name in _FINITE and not np.isfinite(values).all():
            problems.append(f"{name} of the correction has values that are not finite: correct them")
        if name in _NO_TABLE and set(variable.dims) & {*TABLE_DIMS, "y", "x"}:
            problems.append(
                f"{name} of the correction has dims {variable.dims}: one number, or one per plane, is needed"
            )
        if name == "intensity_scale" and not np.isin(values, range(len(SCALES))).all():
            scales = listed([f"{code} ({scale})" for code, scale in enumerate(SCALES)])
            problems.append(f"intensity_scale of the correction is {values.tolist()}: {scales} are known")
        if name in _RISING and not _rises(correction[name]):
            problems.append(
                f"{name} of the correction falls, or is NaN in part, along the dim quantile: make it rise, or a whole "
                "section NaN to leave it alone"
            )
    rows = correction["section_index"].to_numpy()
    n_sections = correction.sizes.get("section_label", 0)
    if rows.size and (rows.min() < 0 or rows.max() >= n_sections):
        problems.append(
            f"section_index of the correction has rows {rows.min()} to {rows.max()}, its tables have {n_sections} "
            "sections: select planes with .isel(z=…), and leave the dim section_label whole"
        )
    depth = correction["depth_below_cut"].to_numpy() if "lateral_gain" in needed else np.zeros(0)
    if depth.size and (depth.min() < 0 or depth.max() >= correction["lateral_gain"].sizes["plane_depth"]):
        problems.append(
            f"lateral_gain of the correction has {correction['lateral_gain'].sizes['plane_depth']} depths, its planes "
            f"lie at depths {depth.min()} to {depth.max()}: leave the dim plane_depth whole"
        )
    return problems


_PER_PLANE = (
    "section_index",
    "background_threshold",
    "clip_threshold",
    "scale_factor",
    "zprofile_gain",
    "depth_gain",
)
_POSITIVE = ("divisor", "scale_factor", "zprofile_gain", "depth_gain", "lateral_gain")
_FINITE = ("noise_floor", "zero_level")
_NO_TABLE = ("noise_floor", "zero_level", "divisor", "intensity_scale")
_RISING = ("quantile_source", "quantile_target")


def _rises(table: xr.DataArray) -> bool:
    """Whether every row of a table rises along the dim quantile; NaN rows are left alone."""
    if "quantile" not in table.dims:
        return False
    values = table.transpose(..., "quantile").to_numpy()
    rows = values[~np.isnan(values).all(axis=-1)]
    return bool((np.diff(rows) >= 0).all())


def _newer(correction: object) -> str:
    """Say so where the record of a correction is newer than this version."""
    try:
        version = json.loads(getattr(correction, "attrs", {})[provenance.ATTRIBUTE])["schema_version"]
    except (KeyError, TypeError, ValueError):
        return ""
    return f"; its schema version is {version!r}, and {provenance.SCHEMA_VERSION} is known here"


def mismatches(da: xr.DataArray, correction: xr.Dataset, match: str) -> list[str]:
    """How the planes of a volume differ from those that a correction was fitted to."""
    step = provenance.steps_of(correction.attrs)[-1]
    name, dims = step["section"]["name"], tuple(step["section"]["dims"])
    if plane_dims(da, name) != dims:
        return [f"the correction is for planes along {dims}, the volume has them along {plane_dims(da, name)}"]
    sizes = correction["section_index"].sizes
    problems = [
        f"the correction is for {sizes[dim]} planes along {dim}, the volume has {da.sizes[dim]}: a correction "
        "applies to volumes with the same planes"
        for dim in dims
        if sizes[dim] != da.sizes[dim]
    ]
    further = [str(dim) for dim in correction.dims if dim not in {*dims, "y", "x", *TABLE_DIMS}]
    problems += [
        f"the correction was fitted for {correction.sizes[dim]} along {dim}, the volume has "
        f"{da.sizes.get(dim, 'no such dim')}: choose one with correction.isel({dim}=…)"
        for dim in further
        if da.sizes.get(dim) != correction.sizes[dim]
    ]
    if problems or match == "position":
        return problems
    other = [
        f"{dim} is {plain_labels(da.coords[dim].to_numpy())} in the volume and "
        f"{plain_labels(correction.coords[dim].to_numpy())} in the correction: select with correction.sel({dim}=…), "
        'or, where they correspond all the same, pass match="position"'
        for dim in further
        if dim in da.coords and dim in correction.coords and not same_coordinate(da.coords[dim], correction.coords[dim])
    ]
    return [*other, *_other_z(da, correction), *_other_sections(da, correction, name)]


def _other_z(da: xr.DataArray, correction: xr.Dataset) -> list[str]:
    if "z" not in correction.coords or "z" not in da.coords:
        return []
    ours, theirs = da.coords["z"].to_numpy(), correction.coords["z"].to_numpy()
    if ours.dtype.kind in "iuf" and theirs.dtype.kind in "iuf":
        rounded, wanted = rounded_together(ours, theirs)
        other = (rounded != wanted) & ~(np.isnan(rounded) & np.isnan(wanted))
    else:
        other = np.array([a != b for a, b in zip(plain_labels(ours), plain_labels(theirs), strict=True)])
    if not other.any():
        return []
    plane = int(np.argmax(other))
    return [
        f"plane {plane} lies at z = {ours[plane]} in the volume and at z = {theirs[plane]} in the correction; where "
        'planes correspond all the same, pass match="position"'
    ]


def _other_sections(da: xr.DataArray, correction: xr.Dataset, name: str) -> list[str]:
    if name not in correction.coords or name not in da.coords or name == "z":
        return []
    sections = find_sections(da, name)
    rows = correction["section_index"].to_numpy().reshape(-1)
    ours = plain_labels(sections.label_values()[sections.index])
    theirs = plain_labels(correction["section_label"].to_numpy()[rows])
    other = [plane for plane, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]]
    if not other:
        return []
    plane = other[0]
    return [
        f"plane {plane} belongs to {name} {ours[plane]} in the volume and to {theirs[plane]} in the correction; "
        'where planes correspond all the same, pass match="position"'
    ]
