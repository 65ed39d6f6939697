"""Write the report: figures of merit, pictures and tables, put into one file."""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xoctnorm import progress, provenance
from xoctnorm.errors import raise_problems
from xoctnorm.files import sync
from xoctnorm.optional import missing
from xoctnorm.plan import sizes_text
from xoctnorm.plot.overview import extents
from xoctnorm.plot.reads import middle_of_tissue
from xoctnorm.plot.series import Series, of_same_planes, series_of, units_of
from xoctnorm.qc import findings
from xoctnorm.report import reproduce, tables
from xoctnorm.report.images import black_and_white, grey_images
from xoctnorm.report.pictures import Sources, pictures
from xoctnorm.report.reading import read_once, shown_planes
from xoctnorm.text import escaped

_CALL = "report"
_SUFFIXES = (".html", ".htm")
MOST_BYTES = 5_000_000
_SPARE = 600_000  # for tables, which are small
_MARKS = {"ok": "✓", "warning": "▲", "error": "✕", "unknown": "?"}
_WORDS = {"ok": "OK", "warning": "Warning", "error": "Error", "unknown": "Unknown"}


def report_problems(path: str | os.PathLike[str]) -> list[str]:
    """What keeps a report from being written: its path, and packages that are missing."""
    problems = [
        problem
        for package in ("matplotlib", "jinja2", "PIL")
        for problem in missing(package, "a report", extra="report")
    ]
    target = Path(path).expanduser()
    if target.suffix.lower() not in _SUFFIXES:
        problems.append(f"path={str(path)!r}: the name of a report ends in .html")
    if not target.resolve().parent.is_dir():
        problems.append(f"path={str(path)!r}: there is no folder {str(target.resolve().parent)!r}; make it first")
    if target.is_dir():
        problems.append(f"path={str(path)!r}: this is a folder, and a report is a file")
    return problems


def write_report(
    da: xr.DataArray,
    path: str | os.PathLike[str],
    before: xr.DataArray | None,
    correction: xr.Dataset | None,
    qc: xr.Dataset | None,
    title: str | None,
) -> Path:
    """Measure, draw and write; the file is whole or not there."""
    raise_problems(_CALL, report_problems(path))
    series = series_of(_CALL, da, correction)
    earlier = of_same_planes(_CALL, before, series)
    if qc is not None and not (isinstance(qc, xr.Dataset) and {"status", "verdict"} <= set(qc.attrs)):
        raise_problems(_CALL, [f"qc needs the Dataset that da.octnorm.qc() returned, got {type(qc).__name__}"])
    if qc is None:
        earlier_volume = None if earlier is None else earlier.volume
        fitted = series.fitted if correction is not None else None
        qc = series.volume.octnorm.qc(earlier_volume, correction=fitted, section=series.section)
    shown, at = shown_planes(series), middle_of_tissue(series)
    with progress.job(_CALL, len(series) * (1 if earlier is None else 2)):
        seen = read_once(series, shown, at)
        seen_before = None if earlier is None else read_once(earlier, shown, at)
    sources = Sources(series, seen, earlier, seen_before)
    text = _rendered(sources, shown, qc, title)
    return _written(escaped(text), Path(path).expanduser().resolve())


def _rendered(sources: Sources, shown: Sequence[int], qc: xr.Dataset, title: str | None) -> str:
    import jinja2

    from xoctnorm import __version__

    series, da = sources.series, sources.series.volume
    style, script = (_asset(name) for name in ("style.css", "script.js"))
    drawn = pictures(sources)
    spent = sum(len(one.bright) + len(one.dark) for one in drawn) + len(style) + len(script) + _SPARE
    stages = {stage: (seen.images, black_and_white(seen.images)) for stage, (_, seen) in sources.stages().items()}
    coded = grey_images(stages, MOST_BYTES - spent)
    middle = int(np.argmin(np.abs(np.asarray(shown) - sources.seen.cuts.at[0])))
    head, rows = tables.sections(series, qc)
    steps = provenance.steps_of(da.attrs)
    height, width = next(iter(sources.seen.images.values())).shape
    along_y, along_x = extents(series)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(_asset("template.html")).render(
        title=title if title is not None else _title(da),
        facts=f"{sizes_text(da.sizes)}, {len(series.sections)} section{'s' if len(series.sections) > 1 else ''}",
        status=qc.attrs["status"],
        verdict=qc.attrs["verdict"],
        findings=findings(qc),
        marks=_MARKS,
        words=_WORDS,
        style=_safe(style),
        script=_safe(script),
        style_hash=_sha256(style),
        script_hash=_sha256(script),
        version=__version__,
        time=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        compares=sources.earlier is not None,
        pictures=drawn,
        figures=tables.figures(qc),
        section_head=head,
        section_rows=rows,
        python=reproduce.python_code(steps),
        shell=reproduce.shell_code(steps),
        versions=reproduce.versions(steps),
        steps=tables.steps(da),
        volume=tables.volume_rows(series),
        history=str(da.attrs.get("history", "")),
        width=width,
        height=height,
        n_shown=len(shown),
        first_index=middle,
        first_plane=shown[middle],
        first_after=coded["after"][middle],
        first_before=coded.get("before", coded["after"])[middle],
        hint=_hint(len(shown), len(series)),
        data={**coded, "planes": _places(series, shown), "aspect": round(along_x / along_y, 4)},
    )


def _asset(name: str) -> str:
    return (files("xoctnorm.report") / name).read_text(encoding="utf-8")


def _safe(text: str) -> Any:
    """Our own text, which is not escaped."""
    from markupsafe import Markup

    return Markup(text)


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _title(da: xr.DataArray) -> str:
    return str(da.name) if da.name is not None else str(da.attrs.get("long_name", "volume"))


def _hint(n_shown: int, n_planes: int) -> str:
    """Say so where not all planes are shown."""
    return "" if n_shown == n_planes else f"{n_shown} of {n_planes} planes are shown, evenly spread."


def _places(series: Series, shown: Sequence[int]) -> list[dict[str, Any]]:
    """What is said of every plane, and the row of its section."""
    first, labels = series.sections.first_plane, series.sections.labels
    units = units_of(series.volume.coords["z"]) if "z" in series.volume.coords else ""
    places = []
    for number in shown:
        row = int(series.sections.index[number])
        section = f"section {labels[row]}, its plane {number - first[row]} · " if series.sections.explicit else ""
        where = "" if series.z_label == "plane" else f" · z\u00a0=\u00a0{series.z[number]:g}\u00a0{units}".rstrip()
        places.append({"row": row, "text": f"{section}plane {number}{where}"})
    return places


def _written(text: str, target: Path) -> Path:
    """Write under another name in the same folder, and rename."""
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name[:40]}.", suffix=".partial", dir=target.parent)
    partial = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        partial.chmod(0o666 & ~_umask())
        sync(partial)
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync(target.parent)
    return target


def _umask() -> int:
    """Which permissions new files do not get."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
