"""Apply a correction to a labelled volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import DTypeLike

from xoctnorm import provenance
from xoctnorm.checks import clashes, volume_problems
from xoctnorm.corrections import BY_NAME, Background, Correction
from xoctnorm.errors import listed, raise_problems
from xoctnorm.kernels.background import clip_to_unit
from xoctnorm.kernels.digest import MODULUS, digest
from xoctnorm.metadata import ATTACHED
from xoctnorm.pending import await_digest
from xoctnorm.sections import find_sections, plain_labels, plane_dims
from xoctnorm.volume import Planes, Transfer, volume_dims

MATCHES = ("coordinates", "position")


@dataclass(frozen=True)
class Form:
    """What the user asked of a result: its floating dtype, and whether what was fitted comes along."""

    dtype: DTypeLike = np.float32
    attach: bool = True

    def problems(self, da: xr.DataArray) -> list[str]:
        """What is wrong with the form, for this volume."""
        found = clashes(da) if self.attach else []
        if not self.record()["dtype"].startswith("float"):
            found.append(
                f"dtype={self.dtype!r}: floating dtypes are accepted, since results lie between 0 and 1: 'float32', "
                "'float64' or 'float16'"
            )
        return found

    def record(self) -> dict[str, Any]:
        """The form as the record keeps it."""
        try:
            name = np.dtype(self.dtype).name
        except TypeError:
            name = repr(self.dtype)
        return {"dtype": name, "attach": self.attach}


def apply(da: xr.DataArray, correction: xr.Dataset, form: Form, *, match: str) -> xr.DataArray:
    """Apply a correction to a volume with the same planes, after checking that they are the same."""
    problems = [*volume_problems(da), *form.problems(da)]
    if match not in MATCHES:
        problems.append(f"match={match!r}: needs one of {listed([repr(m) for m in MATCHES])}")
    problems += correction_problems(correction)
    if not problems:
        problems += mismatches(da, correction, match)
    raise_problems("apply", problems)
    step = provenance.steps_of(correction.attrs)[-1]
    step["applied_to"] = _applied_to(da, step["section"]["name"])
    step["apply"] = {"time": provenance.now(), "parameters": {"match": match, **form.record()}}
    line = provenance.history_line({**step, **step["apply"], "method": "apply"})
    return corrected(da, correction, step, [line, provenance.history_line(step)], form)


def corrected(
    da: xr.DataArray, correction: xr.Dataset, step: dict[str, Any], history: Sequence[str], form: Form
) -> xr.DataArray:
    """The corrected volume with what was fitted, its attributes and its record; lazy where it is chunked."""
    corrections = recorded_corrections(step)
    planes = Planes(da.variable.transpose(*volume_dims(da, step["section"]["name"])))
    for one in corrections:
        planes = one.apply(planes, correction)
    scaled = any(isinstance(one, Background) for one in corrections)
    if scaled:
        planes = planes.through(Transfer(clip_to_unit))
    result = da.copy(deep=False, data=planes.correct(np.dtype(form.dtype)).transpose(*da.dims).data)
    result.encoding = {}

    fitted = [name for name in ATTACHED if name in correction]
    result = result.drop_vars([name for name in fitted if name in result.coords and provenance.is_ours(result[name])])
    if form.attach:
        result = result.assign_coords(
            {name: correction[name].variable.copy() for name in fitted if _fits(correction[name], da)}
        )
    stale = provenance.stale_attributes(da.attrs)
    attrs = {name: value for name, value in da.attrs.items() if name not in stale}
    if scaled:
        attrs["units"] = "1"
    elif "units" in da.attrs:
        attrs["units"] = da.attrs["units"]
    attrs["history"] = provenance.add_history(history, da.attrs.get("history"))
    attrs[provenance.ATTRIBUTE] = provenance.record([*provenance.steps_of(da.attrs), step])
    result.attrs = attrs
    return result


def recorded_corrections(step: dict[str, Any]) -> list[Correction]:
    """The corrections that a step records, with their parameters."""
    return [BY_NAME[c["name"]](**c["parameters"]) for c in step["corrections"]]


def correction_problems(correction: xr.Dataset) -> list[str]:
    """What makes a Dataset no correction."""
    if not isinstance(correction, xr.Dataset) or provenance.ATTRIBUTE not in correction.attrs:
        return [
            f"the correction is a {type(correction).__name__} without a record of how it was fitted: pass the Dataset "
            f"that da.octnorm.fit() returned, with its attribute {provenance.ATTRIBUTE!r}"
        ]
    unknown = [c["name"] for c in provenance.steps_of(correction.attrs)[-1]["corrections"] if c["name"] not in BY_NAME]
    if unknown:
        return [f"the correction {listed(unknown)} is unknown to this version of xoctnorm: a newer one made it"]
    return []


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
    own = {*dims, "y", "x", "section_label", "bin"}
    for dim, size in correction.sizes.items():
        if dim not in own and da.sizes.get(dim) != size:
            problems.append(
                f"the correction was fitted for {size} along {dim}, the volume has {da.sizes.get(dim, 'no such dim')}: "
                f"choose one with correction.isel({dim}=…)"
            )
    if problems or match == "position":
        return problems
    return [*_other_z(da, correction), *_other_sections(da, correction, name)]


def _other_z(da: xr.DataArray, correction: xr.Dataset) -> list[str]:
    if "z" not in correction.coords or "z" not in da.coords:
        return []
    ours, theirs = da.coords["z"].to_numpy(), correction.coords["z"].to_numpy()
    if ours.dtype.kind in "iuf" and theirs.dtype.kind in "iuf":
        spacing = np.median(np.abs(np.diff(theirs.astype(float)))) if theirs.size > 1 else abs(float(theirs[0]))
        other = np.abs(ours.astype(float) - theirs) > 0.01 * spacing
    else:
        other = ours != theirs
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


def _fits(variable: xr.DataArray, da: xr.DataArray) -> bool:
    """Whether a fitted variable has a place on the volume; a mask of another pyramid level has none."""
    return all(da.sizes.get(dim) == size for dim, size in variable.sizes.items())


def _applied_to(da: xr.DataArray, section: str) -> dict[str, Any]:
    """Identity of the volume; a chunked one is not read for its digest, which awaits the writing of the result."""
    dims = volume_dims(da, section)
    if da.chunks is not None:
        return {**provenance.identity(da), "awaits": await_digest(da.variable, dims)}
    data = da.variable.transpose(*dims)
    size = int(np.prod(data.shape[-2:]))
    words = (digest(plane, number * size) for number, plane in enumerate(Planes(data).raw_planes()))
    return provenance.identity(da, sum(words) % MODULUS)
