"""The record of what was done: history lines, one JSON attribute, and the identity of volumes."""

from __future__ import annotations

import json
import platform
import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
import xarray as xr

from xoctnorm.kernels.backend import as_array
from xoctnorm.kernels.digest import ALGORITHM, MODULUS, digest
from xoctnorm.text import escaped

SCHEMA_VERSION = 1
ATTRIBUTE = "xoctnorm_provenance"
SOURCE = f"xoctnorm {version('xoctnorm')}"

_SOFTWARE = ("xoctnorm", "xarray", "numpy", "scipy", "scikit-image", "pandas", "dask")
# Attributes that describe the values before the correction: they move into the record.
_STALE_PREFIXES = ("valid_", "flag_")
_STALE = ("actual_range", "standard_name", "missing_value")


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def new_step(
    method: str,
    parameters: Mapping[str, Any],
    corrections: Sequence[Mapping[str, Any]],
    fitted_on: Mapping[str, Any],
    warnings: Sequence[str],
    device: Mapping[str, str],
) -> dict[str, Any]:
    """Make the record of one step, JSON-able: what was called, on what, by what, and what it warned of."""
    step = {
        "method": method,
        **circumstances(parameters, warnings, device),
        "corrections": list(corrections),
        "fitted_on": dict(fitted_on),
        "applied_to": None,
    }
    plain: dict[str, Any] = jsonable(step)
    return plain


def circumstances(parameters: Mapping[str, Any], warnings: Sequence[str], device: Mapping[str, str]) -> dict[str, Any]:
    """When, with which parameters, by what and on what a call was computed, and what it warned of."""
    return {
        "time": now(),
        "parameters": dict(parameters),
        **device,
        "software": dict(_software()),
        "warnings": list(warnings),
    }


@cache
def _software() -> dict[str, str]:
    """Versions of what computes; looking for them takes milliseconds."""
    return {name: version(name) for name in _SOFTWARE} | {"python": platform.python_version()}


def history_line(step: Mapping[str, Any]) -> str:
    """One line of history: time, version and the full call."""
    call = ", ".join(f"{name}={value!r}" for name, value in step["parameters"].items())
    return f"{step['time']} xoctnorm {step['software']['xoctnorm']}: {step['method']}({call})"


def add_history(lines: Sequence[str], former: object) -> str:
    """Put new lines, newest first, before the history so far."""
    return "\n".join([*lines, *([str(former)] if former else [])])


def steps_of(attrs: Mapping[Any, Any]) -> list[dict[str, Any]]:
    """Steps that a volume or a correction records; none where it has no record that can be read."""
    try:
        whole = json.loads(attrs[ATTRIBUTE])
        known = whole["schema_version"] <= SCHEMA_VERSION
        steps: list[dict[str, Any]] = whole["steps"]
        complete = all({"method", "corrections", "parameters"} <= set(step) for step in steps)
    except (KeyError, TypeError, ValueError):
        return []
    return steps if known and complete else []


def section_name(da: xr.DataArray, attrs: Mapping[Any, Any]) -> str:
    """What groups planes: as attributes, else those of the volume, record it, where it is there; else `section`."""
    for step in reversed(steps_of(attrs) or steps_of(da.attrs)):
        name = str(step.get("section", {}).get("name", "section"))
        if name in da.coords or name in da.dims:
            return name
    return "section"


def is_normalized(attrs: Mapping[Any, Any]) -> bool:
    """Whether the record says that the background was subtracted already."""
    return any(one["name"] in ("background", "unit_scale") for step in steps_of(attrs) for one in step["corrections"])


def without_floor(attrs: Mapping[Any, Any]) -> bool:
    """Whether the record says that the values are linear intensity, the noise floor taken off."""
    return any(one["name"] == "tissue_drift" for step in steps_of(attrs) for one in step["corrections"])


def values_digest(ds: xr.Dataset) -> str:
    """Digest of all numbers of a correction, by which an edited one is known."""
    words = [
        digest(as_array(variable.data), start=zlib.crc32(str(name).encode()))
        for name, variable in ds.variables.items()
        if variable.dtype.kind in "biuf"
    ]
    return digest_text(sum(words) % MODULUS)


def digest_text(total: int) -> str:
    """A digest as the record has it."""
    return f"{ALGORITHM}:{total:016x}"


def record(steps: Sequence[Mapping[str, Any]], **more: Any) -> str:
    """Write steps, and what else a file has to say, as the JSON attribute."""
    whole = jsonable({"schema_version": SCHEMA_VERSION, "steps": list(steps), **more})
    return escaped(json.dumps(whole, ensure_ascii=False))


def identity(da: xr.DataArray, total: int | None = None) -> dict[str, Any]:
    """What tells one volume from another: name, shape, dtype, file, attributes that change, and digest."""
    return {
        "name": da.name,
        "shape": {str(dim): size for dim, size in da.sizes.items()},
        "dtype": da.dtype.name,
        "digest": None if total is None else digest_text(total),
        "source": _source(da),
        "attributes": stale_attributes(da.attrs),
    }


def _source(da: xr.DataArray) -> str | None:
    """The file that a volume was opened from."""
    named: str | None = da.encoding.get("source")
    if named is not None or not da.encoding:  # arithmetic leaves no encoding
        return named
    stores = set(zarr_stores(da))
    return stores.pop() if len(stores) == 1 else None


def zarr_stores(da: xr.DataArray) -> Iterator[str]:
    """Zarr stores that the values of a volume come from, which plain xarray does not name in the encoding."""
    arrays: list[Any] = [da.variable._data]
    if da.chunks is not None:  # xarray puts what it opened into a layer of its own
        layers = da.data.dask.layers
        arrays = [layers[name][name] for name in layers if name.startswith("original-open_dataset-")]
    for array in arrays:
        while hasattr(array, "array"):
            array = array.array
        stored: Any = getattr(array, "_array", None)
        if getattr(stored, "store_path", None) is not None:
            yield str(stored.store).removeprefix("file://")


def stale_attributes(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """Attributes that describe the values before a correction and do not hold after it."""
    return {
        str(name): value
        for name, value in attrs.items()
        if str(name).startswith(_STALE_PREFIXES) or name in _STALE or name == "units"
    }


def is_ours(coord: xr.DataArray) -> bool:
    """Whether a coordinate was attached by this package."""
    return str(coord.attrs.get("source", "")).startswith("xoctnorm ")


def jsonable(value: Any) -> Any:
    """Turn a value into what JSON can hold: numbers, text, None, lists and dicts of them."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return jsonable(value.tolist()) if value.dtype.kind in "biufUS" else str(value)
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes):
        return [jsonable(item) for item in value]
    if isinstance(value, date):
        return value.isoformat()
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
