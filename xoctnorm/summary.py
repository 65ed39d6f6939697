"""What a volume is and what was done to it, for people; told from metadata alone."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import xarray as xr

from xoctnorm.errors import InputError
from xoctnorm.plan import in_bytes, sizes_text
from xoctnorm.provenance import is_ours, jsonable, section_name, steps_of
from xoctnorm.sections import find_sections
from xoctnorm.settings import USE_GPU, Normalization

_MOST_LABELS = 12
_OF_RESULT = {"agarose_mask": None, "dtype": "float32", "attach": True, "use_gpu": USE_GPU}
_DEFAULTS = {**jsonable(asdict(Normalization())), **_OF_RESULT}


def summary(da: xr.DataArray) -> list[tuple[str, str]]:
    """What a DataArray is as a volume, in rows with a name and a text; of values, labels of sections alone are read."""
    chunks = f", {np.prod([len(lengths) for lengths in da.chunks])} chunks" if da.chunks is not None else ""
    rows = [
        ("volume", f"{da.name or 'without a name'}, {sizes_text(da.sizes)}, {da.dtype}"),
        ("values", f"{in_bytes(da.nbytes)}, {units_text(da.attrs.get('units'))}{chunks}"),
        ("sections", _sections(da)),
        ("agarose", _agarose(da)),
    ]
    attached = [str(name) for name, coord in da.coords.items() if is_ours(coord) and name != "agarose_mask"]
    if attached:
        rows.append(("attached", ", ".join(attached)))
    done = [call_text(step) for step in reversed(recorded_steps(da.attrs))]
    rows += [("" if number else "done", line) for number, line in enumerate(done or ["nothing is recorded"])]
    warned = [warning for step in steps_of(da.attrs) for warning in step["warnings"]]
    return rows + [("" if number else "warned", warning) for number, warning in enumerate(warned)]


def summary_text(da: xr.DataArray) -> str:
    """The summary as text."""
    return f"<xoctnorm>\n{table_text(summary(da))}"


def summary_html(da: xr.DataArray) -> str:
    """The summary as a table of HTML; what comes from the volume is escaped."""
    rows = (
        f"<tr><th style='text-align: left'>{html.escape(name)}</th>"
        f"<td style='text-align: left'>{html.escape(text)}</td></tr>"
        for name, text in summary(da)
    )
    return f"<table>{''.join(rows)}</table>"


def _sections(da: xr.DataArray) -> str:
    if "z" not in da.dims:
        return "no dim z"
    try:
        sections = find_sections(da, section_name(da, {}))
    except InputError as error:
        return "; ".join(error.problems)
    if not sections.explicit:
        return "none are marked: one section"
    return sections_text(sections.labels, sections.n_planes.tolist())


def _agarose(da: xr.DataArray) -> str:
    if "agarose_mask" not in da.coords:
        return "no mask is attached"
    mask = da.coords["agarose_mask"]
    return f"a mask is attached, along {', '.join(str(dim) for dim in mask.dims)}"


def axis_of(volume: xr.DataArray, dim: str) -> dict[str, Any] | None:
    """Spacing, units and ends of an axis; None without a numeric coordinate."""
    if dim not in volume.coords or volume.coords[dim].dtype.kind not in "iuf":
        return None
    at = volume.coords[dim].to_numpy().astype(float)
    steps = np.diff(at)
    step = float(np.median(steps)) if steps.size else None
    even = step is None or bool((np.abs(steps - step) <= 0.01 * abs(step)).all())
    first, last = float(at[0]), float(at[-1])
    return {"spacing": step, "even": even, "first": first, "last": last, "units": volume[dim].attrs.get("units")}


def axis_text(axis: Mapping[str, Any] | None) -> str:
    """An axis for people."""
    if axis is None:
        return "no coordinate"
    units = f" {axis['units']}" if axis["units"] not in (None, "1") else ""
    ends = f"{axis['first']:g} to {axis['last']:g}{units or ', without units'}"
    return ends if axis["spacing"] is None else f"{ends}, {'every' if axis['even'] else 'about'} {axis['spacing']:g}"


def sections_text(labels: Sequence[Any], n_planes: Sequence[int]) -> str:
    """Number of sections, their labels, and how many planes they have."""
    names = [str(label) for label in labels]
    if len(names) > _MOST_LABELS:
        names = [*names[: _MOST_LABELS // 2], "…", *names[-_MOST_LABELS // 2 :]]
    least, most = min(n_planes), max(n_planes)
    planes = f"{least} planes" if least == most else f"{least} to {most} planes"
    return f"{len(labels)} of {planes}: {', '.join(names)}"


def recorded_steps(attrs: Mapping[Any, Any]) -> list[dict[str, Any]]:
    """The recorded steps, without the software that is the same for all."""
    return [
        {key: step[key] for key in ("method", "time", "parameters", "warnings")}
        | {"applied": step.get("apply", {}).get("time")}
        for step in steps_of(attrs)
    ]


def history_lines(text: object) -> list[str]:
    """Lines of an attribute, newest first."""
    return str(text).splitlines() if text else []


def call_text(step: Mapping[str, Any]) -> str:
    """One recorded step, without arguments that are the defaults."""
    parameters = step["parameters"].items()
    given = [f"{name}={value!r}" for name, value in parameters if _DEFAULTS.get(name, _DEFAULTS) != value]
    applied = f", applied {step['applied']}" if step["applied"] else ""
    return f"{step['time']} {step['method']}({', '.join(given)}){applied}"


def units_text(units: object) -> str:
    """Units of values for people."""
    return "of unknown units" if units is None else "without dimension" if units == "1" else f"in {units}"


def table_text(rows: Sequence[tuple[str, str]]) -> str:
    """Rows with a name and a text each, aligned."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}}  {text}".rstrip() for name, text in rows)
