"""Names and attributes as CF and NetCDF have them."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from xarray.indexes import PandasMultiIndex

from xoctnorm.provenance import ATTRIBUTE, SOURCE, is_ours, jsonable, now
from xoctnorm.text import escaped, holdable

# What CF and ACDD define for a whole file. These stay on the volume too: xr.open_dataarray drops what is global.
_GLOBAL = re.compile(
    "title|history|institution|source|references|comment|summary|id|naming_authority|license|acknowledgement"
    "|processing_level|project|program|product_version|metadata_link|(keywords|date|creator|contributor|publisher"
    "|instrument|platform)(_[a-z]+)?"
)
# Names that xarray, HDF5 or a CF checker would act upon; as attributes of a decoded array they are only remarks.
_RESERVED = {"coordinates", "dtype", "missing_value", "scale_factor", "add_offset", "calendar"}
_RESERVED |= {"CLASS", "NAME", "REFERENCE_LIST", "DIMENSION_LIST"}
_POINTERS = ("bounds", "climatology", "grid_mapping", "cell_measures", "formula_terms")


def cf_dataset(volume: xr.DataArray, call: str) -> xr.Dataset:
    """Everything that goes into the file: names, attributes and coordinates as CF has them, values untouched.

    `call` is what the history of the file has.
    """
    indexes = [index for index in volume.xindexes.values() if isinstance(index, PandasMultiIndex)]
    levels = {index.dim: list(index.index.names) for index in indexes}
    array = volume.drop_encoding().reset_index(list(levels))
    names = _clean_names([*array.dims, *array.coords])
    array = array.rename({old: new for old, new in names.items() if old != new})
    name = "volume" if volume.name is None or volume.name in names else _clean(volume.name)
    while name in names.values():
        name += "_"
    ds = array.to_dataset(name=name)
    for key, variable in ds.variables.items():
        variable.attrs = _attributes(str(key), variable, {str(n) for n in ds.variables})

    attrs = ds[name].attrs
    ancillary = [str(n) for n, coord in ds.coords.items() if is_ours(coord) and n not in ds.dims]
    ancillary += [n for n in str(attrs.pop("ancillary_variables", "")).split() if n in ds.coords and n not in ancillary]
    if ancillary:
        attrs["ancillary_variables"] = " ".join(ancillary)
    attrs.pop("xoctnorm_multiindex", None)
    former, renamed = record(volume.attrs), {names[d]: [names[n] for n in of] for d, of in levels.items()}
    if former is not None:
        former.pop("multiindex", None)
        attrs[ATTRIBUTE] = _json(former | ({"multiindex": renamed} if renamed else {}))
    elif renamed:
        attrs["xoctnorm_multiindex"] = _json(renamed)

    ds.attrs = {
        "Conventions": ", ".join(["CF-1.11", *re.findall(r"ACDD-[\d.]+", str(volume.attrs.get("Conventions")))]),
        "title": attrs.get("long_name", name),
        "history": f"{now()} {SOURCE}: {call}",
        **{key: value for key, value in attrs.items() if _GLOBAL.fullmatch(key) and isinstance(value, str) and value},
    }
    return ds


def record(attrs: Mapping[Any, Any]) -> dict[str, Any] | None:
    """Read the provenance attribute; None where there is none that can be read."""
    try:
        found = json.loads(attrs[ATTRIBUTE])
    except (KeyError, TypeError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _clean_names(names: Iterable[Hashable]) -> dict[Hashable, str]:
    """Names as CF wants them, all different; those that are good already come first and so stay as they are."""
    cleaned: dict[Hashable, str] = {}
    for name in sorted(dict.fromkeys(names), key=lambda name: _clean(name) != name):
        new = _clean(name)
        while new in cleaned.values():
            new += "_"
        cleaned[name] = new
    return cleaned


def _clean(name: Hashable) -> str:
    text = re.sub(r"\W", "_", str(name), flags=re.ASCII)[:200]
    return text if text[:1].isalpha() else f"user_{text}"


def _attributes(name: str, variable: xr.Variable, known: set[str]) -> dict[str, Any]:
    """Attributes of one variable as the file holds them."""
    kind = variable.dtype.kind
    kept = {key: value for key, value in variable.attrs.items() if key != "Conventions"}
    for key in kept.keys() & {"units", "long_name", "standard_name"}:
        kept[key] = "" if kept[key] is None else str(kept[key]).strip()
        if not kept[key]:
            del kept[key]
    if "standard_name" not in kept:
        kept.setdefault("long_name", name)
    if kind in "iuf":
        kept.setdefault("units", "1")
    elif kind == "b":
        meanings = "tissue_or_empty agarose" if name == "agarose_mask" else "false true"
        kept = {"flag_meanings": meanings, **kept, "flag_values": np.array([0, 1], "int8")}
    elif kind == "M":
        kept = {"standard_name": "time", "units_metadata": "leap_seconds: unknown", **kept}

    reserved = _RESERVED | {"units" if kind in "mM" else "", "axis" if str(kept.get("axis")) != "T" else ""}
    # Pointers to variables that are not part of a DataArray, such as bounds, would point nowhere.
    reserved |= {p for p in _POINTERS if not {t for t in str(kept.get(p)).split() if t[-1] != ":"} <= known}
    free = {f"user_{key}" if key in reserved else key: value for key, value in kept.items()}
    return {new: _native(free[key]) for key, new in _clean_names(free).items()}


def _native(value: object) -> Any:
    """Give a value that a NetCDF attribute can hold: JSON where it cannot hold this one."""
    items = value if isinstance(value, list | tuple) else [value]
    if items and all(isinstance(item, str) and holdable(item) for item in items):
        return value
    if not all(isinstance(item, int | float | np.number | np.ndarray) and not isinstance(item, bool) for item in items):
        return _json(value)
    try:
        array = np.asarray(value)
    except ValueError:  # Arrays of several shapes.
        return _json(value)
    if array.dtype.kind not in "iuf" or array.dtype.itemsize > 8 or array.ndim > 1 or array.size == 0:
        return _json(value)
    return array.astype(stored(array.dtype))[()]


def _json(value: object) -> str:
    try:
        return escaped(json.dumps(jsonable(value), ensure_ascii=False))
    except (RecursionError, TypeError, ValueError):
        return json.dumps(repr(value))


def stored(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Give the dtype that the file has for one in memory."""
    return np.dtype("float32") if dtype == np.float16 else dtype.newbyteorder("=")
