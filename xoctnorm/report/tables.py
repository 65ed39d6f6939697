"""Tables of the report, as text: figures of merit, sections, the record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm import provenance
from xoctnorm.plan import in_bytes, sizes_text
from xoctnorm.plot.series import Series, units_of
from xoctnorm.qc import DEFINITIONS
from xoctnorm.qc.verdict import number_text

# Figures that are told for every section, and how they are headed.
_OF_SECTIONS = {"agarose_coverage": "agarose", "boundary_step": "step at the cut", "left_out_error": "left-out error"}


_URGENT = {"error": 2, "warning": 1}


class Row(NamedTuple):
    """A figure of merit: before, after, and how it is judged."""

    name: str
    title: str
    before: str
    after: str
    status: str
    limits: str
    comment: str


def figures(qc: xr.Dataset) -> list[Row]:
    """All figures of merit, those that are not as they should be first."""
    rows = [
        Row(
            str(name),
            str(figure.attrs.get("long_name", name)),
            _in_short(qc, str(name), "before"),
            _in_short(qc, str(name), "after"),
            str(figure.attrs.get("status", "")),
            _limits(str(name), figure),
            str(figure.attrs.get("comment", "")),
        )
        for name, figure in qc.data_vars.items()
    ]
    return sorted(rows, key=lambda row: -_URGENT.get(row.status, 0))


def _in_short(qc: xr.Dataset, name: str, stage: str) -> str:
    """A figure at a stage: the number, or the median and the range of several."""
    figure = qc[name]
    if "stage" in figure.dims:
        if stage not in figure["stage"].to_numpy():
            return ""
        figure = figure.sel(stage=stage)
    elif stage == "before":
        return ""
    if figure.dtype.kind not in "biuf":
        return ""
    values = figure.to_numpy().astype(float).ravel()
    values = values[~np.isnan(values)]
    if not values.size:
        return "–"
    middle, low, high = (_text(name, one, figure) for one in (np.median(values), values.min(), values.max()))
    return middle if low == high else f"{middle} ({low} … {high})"


def _limits(name: str, figure: xr.DataArray) -> str:
    """Limits in words; of several numbers also the one that was held against them, which need not be their median."""
    limits = str(figure.attrs.get("limits", ""))
    if not limits or "judged" not in figure.attrs or figure.size // figure.sizes.get("stage", 1) < 2:
        return limits
    return f"judged: {_text(name, figure.attrs['judged'], figure)}; {limits}"


def _text(name: str, value: float, figure: xr.DataArray) -> str:
    if name in DEFINITIONS:
        return number_text(float(value), DEFINITIONS[name])
    units = units_of(figure)
    return f"{value:.3g} {units}".rstrip()


def sections(series: Series, qc: xr.Dataset) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table of sections: what was fitted, and how each is judged."""
    first = series.sections.first_plane
    last = first + series.sections.n_planes - 1
    columns: dict[str, list[str]] = {
        "section": [str(label) for label in series.sections.labels],
        "planes": [f"{a}–{b}" for a, b in zip(first, last, strict=True)],
    }
    if series.z_label != "plane":
        units = units_of(series.volume.coords["z"])
        ends = [f"{series.z[a]:g}–{series.z[b]:g}" for a, b in zip(first, last, strict=True)]
        columns[f"z ({units})" if units else "z"] = ends
    gain, error = series.per_section("section_gain"), series.per_section("section_gain_se")
    if gain is not None and error is not None:
        columns["gain ± s.e."] = [f"{g:.3f} ± {e:.2g}" for g, e in zip(gain, error, strict=True)]
    if (metric := series.per_section("metric")) is not None:
        columns["metric"] = [f"{one:.3g}" for one in metric]
    factor = series.per_plane("scale_factor")
    if factor is not None:
        columns["mean factor"] = [f"{factor[a : b + 1].mean():.3f}" for a, b in zip(first, last, strict=True)]
    for name, head in _OF_SECTIONS.items():
        for stage, values in _by_stage(qc, name).items():
            if len(values) == len(first):
                columns[f"{head}{stage}"] = [_percent(one) for one in values]
    if (flags := series.per_section("section_flags")) is not None and any(flags):
        columns["flags"] = [_flags(one) for one in flags]
    return list(columns), [list(row) for row in zip(*columns.values(), strict=True)]


def _flags(words: object) -> str:
    return ", ".join(word.replace("_", " ") for word in str(words).split())


def _by_stage(qc: xr.Dataset, name: str) -> dict[str, NDArray[np.float64]]:
    if name not in qc or "section_label" not in qc[name].dims:
        return {}
    figure = qc[name]
    if "stage" not in figure.dims:
        return {"": figure.to_numpy().astype(float)}
    return {f", {stage}": figure.sel(stage=stage).to_numpy().astype(float) for stage in figure["stage"].to_numpy()}


def _percent(value: float) -> str:
    return "" if np.isnan(value) else f"{round(100 * value, 1) + 0.0:.1f} %"  # + 0.0: no −0.0


def volume_rows(series: Series) -> list[tuple[str, str]]:
    """What the volume is."""
    da = series.volume
    rows = [
        ("name", str(da.name) if da.name is not None else "none"),
        ("size", f"{sizes_text(da.sizes)}, {da.dtype}, {in_bytes(da.nbytes)}"),
        ("sections", f"{len(series.sections)}" if series.sections.explicit else "none are marked: taken as one"),
    ]
    return rows + [(str(name), str(value)) for name, value in da.attrs.items() if name not in _RECORD]


_RECORD = ("history", provenance.ATTRIBUTE)


def steps(da: xr.DataArray) -> list[dict[str, Any]]:
    """The recorded steps, each as rows of text."""
    return [
        {
            "title": f"{step['method']} · {step['time']}",
            "rows": _flat(
                {key: value for key, value in step.items() if key not in ("parameters", "warnings", "decisions")}
            ),
            "parameters": _flat(step.get("parameters", {})),
            "warnings": [str(one) for one in _warnings(step)],
            "decisions": [str(one) for one in step.get("decisions", [])],
        }
        for step in provenance.steps_of(da.attrs)
    ]


def _warnings(step: Mapping[str, Any]) -> list[Any]:
    return [*step.get("warnings", []), *(step.get("apply") or {}).get("warnings", [])]


def _flat(record: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A record as rows of names and texts."""
    rows: list[tuple[str, str]] = []
    for key, value in record.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            rows += _flat(value, f"{name} · ")
        elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
            for one in value:
                rows += _flat({k: v for k, v in one.items() if k != "name"}, f"{name} · {one.get('name', '')} · ")
        else:
            rows.append((name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
    return rows
