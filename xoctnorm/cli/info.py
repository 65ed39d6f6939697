"""What a file is: a volume or a correction, and what was done to it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xoctnorm.cli.reporting import Outcome
from xoctnorm.plan import in_bytes, sizes_text
from xoctnorm.provenance import steps_of
from xoctnorm.summary import (
    axis_of,
    axis_text,
    call_text,
    history_lines,
    recorded_steps,
    sections_text,
    table_text,
    units_text,
)

_OURS = re.compile(r"\S+ xoctnorm \S+: ")  # lines of history that the recorded steps tell of


def correction_in(path: str) -> xr.Dataset | None:
    """The correction in a NetCDF file; None where it is something else."""
    if not path.endswith(".nc") or not Path(path).is_file():
        return None
    try:
        ds = xr.open_dataset(path)
    except (OSError, ValueError):
        return None  # what opens volumes says what is wrong
    if "section_index" in ds.variables and steps_of(ds.attrs):
        return ds
    ds.close()
    return None


def about_volume(path: str, volume: xr.DataArray) -> Outcome:
    """Say what a volume is."""
    sections = volume.octnorm.sections
    axes = {dim: axis_of(volume, dim) for dim in ("z", "y", "x")}
    explicit = "section" in volume.coords or "section" in volume.dims
    attached = [str(name) for name, coord in volume.coords.items() if "source" in coord.attrs]
    facts = {
        "input": path,
        "kind": "volume",
        "name": volume.name,
        "shape": dict(volume.sizes),
        "dtype": str(volume.dtype),
        "bytes": volume.nbytes,
        "units": volume.attrs.get("units"),
        "axes": axes,
        "chunks": {dim: max(lengths) for dim, lengths in volume.variable.chunksizes.items()},
        "sections": sections.to_dict("records") if explicit else None,
        "attached": attached,
        "steps": recorded_steps(volume.attrs),
        "history": history_lines(volume.attrs.get("history")),
    }
    rows = [
        ("volume", f"{volume.name or 'without a name'}, {sizes_text(volume.sizes)}, {volume.dtype}"),
        ("values", f"{in_bytes(volume.nbytes)}, {units_text(volume.attrs.get('units'))}"),
        *((dim, axis_text(axis)) for dim, axis in axes.items()),
        ("sections", sections_text(sections.label, sections.n_planes) if explicit else "none are marked: one section"),
        *([("attached", ", ".join(attached))] if attached else []),
        *_done(facts),
    ]
    return Outcome(facts, table_text(rows))


def about_correction(path: str, correction: xr.Dataset) -> Outcome:
    """Say what a correction holds, and where it came from."""
    step = steps_of(correction.attrs)[-1]
    labels = [_plain(label) for label in correction["section_label"].to_numpy()]
    n_planes = correction["n_planes"].to_numpy().tolist()
    ranges = {
        str(name): [float(values.min()), float(values.max())]
        for name in correction.data_vars
        if correction[name].dtype.kind == "f" and (values := _finite(correction[name])).size
    }
    facts = {
        "input": path,
        "kind": "correction",
        "corrections": [one["name"] for one in step["corrections"]],
        "planes": {dim: correction.sizes[dim] for dim in step["section"]["dims"]},
        "sections": [{"label": label, "n_planes": n} for label, n in zip(labels, n_planes, strict=True)],
        "fitted_on": step["fitted_on"],
        "ranges": ranges,
        "steps": recorded_steps(correction.attrs),
        "history": history_lines(correction.attrs.get("history")),
    }
    volume = step["fitted_on"]
    source = f" from {volume['source']}" if volume["source"] else ""
    rows = [
        ("correction", ", ".join(name.replace("_", " ") for name in facts["corrections"])),
        ("fitted on", f"{volume['name'] or 'a volume'}, {sizes_text(volume['shape'])}, {volume['dtype']}{source}"),
        ("sections", sections_text(labels, n_planes)),
        *((name, _range_text(*ends)) for name, ends in ranges.items()),
        *_done(facts),
    ]
    return Outcome(facts, table_text(rows))


def _done(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What was done, newest first, without arguments that are the defaults, and what it warned of."""
    done = [call_text(step) for step in reversed(facts["steps"])]
    done += [line for line in facts["history"] if not _OURS.match(line)]
    for number, line in enumerate(done or ["nothing is recorded"]):
        yield "" if number else "done", line
    warned = [warning for step in facts["steps"] for warning in step["warnings"]]
    for number, warning in enumerate(warned):
        yield "" if number else "warned", warning


def _finite(variable: xr.DataArray) -> np.ndarray[Any, np.dtype[Any]]:
    values = variable.to_numpy()
    finite: np.ndarray[Any, np.dtype[Any]] = values[np.isfinite(values)]
    return finite


def _range_text(low: float, high: float) -> str:
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
