"""What is wrong with a volume, a mask or a parameter, as far as metadata tells."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import xarray as xr

from xoctnorm.errors import listed
from xoctnorm.metadata import ATTACHED
from xoctnorm.provenance import is_ours

_UNDECODED = ("scale_factor", "add_offset", "_FillValue")
FEWEST_AGAROSE_PIXELS = 100


def volume_problems(da: xr.DataArray) -> list[str]:
    """Dims, dtype, size and attributes that make a DataArray no volume."""
    problems = []
    dims = [str(dim) for dim in da.dims]
    missing = [dim for dim in ("z", "y", "x") if dim not in dims]
    if missing:
        problems.append(
            f"the volume has dims {tuple(dims)} and lacks {listed([repr(d) for d in missing])}: a volume has "
            "dims z, y and x in any order; rename yours with da.rename({'old': 'new'})"
        )
    doubled = [dim for dim, count in Counter(dims).items() if count > 1]
    if doubled:
        problems.append(f"the volume has the dim {listed([repr(d) for d in doubled])} twice: {tuple(dims)}")
    if da.dtype.kind not in "iuf":
        problems.append(f"the volume has dtype {da.dtype}: integers and floats are accepted; {_remedy(da.dtype)}")
    empty = [str(dim) for dim, size in da.sizes.items() if size == 0]
    if empty:
        problems.append(f"the volume is empty along {listed([repr(d) for d in empty])}: {dict(da.sizes)}")
    undecoded = [name for name in _UNDECODED if name in da.attrs]
    if undecoded:
        problems.append(
            f"the attributes {listed([f'{n}={da.attrs[n]!r}' for n in undecoded])} of the volume were never "
            "decoded, so its values are not intensities: open the file with decoding on, or decode the dataset "
            "with xr.decode_cf"
        )
    return problems


def _remedy(dtype: np.dtype[Any]) -> str:
    if dtype.kind == "b":
        return "a mask has no intensities; was the wrong variable chosen?"
    if dtype.kind == "c":
        return "take abs(da) for amplitude or abs(da) ** 2 for intensity"
    return "convert with da.astype('float32') where the values are numbers"


def clashes(da: xr.DataArray) -> list[str]:
    """Coordinates of the user that have a name which the result needs."""
    names = [name for name in ATTACHED if name in da.coords and not is_ours(da.coords[name])]
    if not names:
        return []
    return [
        f"the volume already has {listed([repr(n) for n in names])}, which the result needs for what was fitted: "
        "rename it with da.rename({…}), or pass attach=False"
    ]


def mask_problems(name: str, mask: xr.DataArray, da: xr.DataArray, dims: tuple[str, ...]) -> list[str]:
    """What makes a mask unfit for a volume; `dims` are those that it must have."""
    if mask.dtype != bool:
        return [f"{name} has dtype {mask.dtype}: bool is accepted; compare first, for instance mask > 0"]
    sizes = {str(dim): size for dim, size in mask.sizes.items()}
    lacking = [dim for dim in dims if dim not in sizes]
    foreign = [dim for dim in sizes if dim not in da.dims]
    if lacking or foreign:
        return [f"{name} has dims {tuple(sizes)}: dims {dims} are needed, each a dim of the volume"]
    wrong = [f"{dim} has {size} instead of {da.sizes[dim]}" for dim, size in sizes.items() if size != da.sizes[dim]]
    if wrong:
        return [f"{name} does not fit the volume: {listed(wrong)}"]
    return [
        f"{name} has another {dim} coordinate than the volume: align them, or drop it with "
        f"{name}.drop_vars({dim!r}) where the positions are the same"
        for dim in sizes
        if dim in mask.coords and dim in da.coords and not _same_coordinate(mask.coords[dim], da.coords[dim])
    ]


def _same_coordinate(one: xr.DataArray, other: xr.DataArray) -> bool:
    a, b = one.to_numpy(), other.to_numpy()
    if a.dtype.kind in "iuf" and b.dtype.kind in "iuf":
        spacing = np.median(np.abs(np.diff(b))) if b.size > 1 else 1.0
        return bool((np.abs(a.astype(float) - b) <= 0.01 * spacing).all())
    return bool((a == b).all())


def coverage_problems(name: str, mask: np.ndarray[Any, np.dtype[np.bool_]]) -> list[str]:
    """What makes an agarose mask useless: hardly any agarose, or nothing else."""
    n_agarose = int(mask.sum())
    if n_agarose == mask.size:
        return [f"{name} is True everywhere: no tissue is left to normalize"]
    if n_agarose < FEWEST_AGAROSE_PIXELS:
        return [
            f"{name} has {n_agarose or 'no'} agarose pixels of {mask.size}: at least {FEWEST_AGAROSE_PIXELS} are "
            "needed for a background; pass a mask that is True on agarose with agarose_mask="
        ]
    return []


def number_problems(
    name: str, value: object, low: float, high: float = math.inf, *, open_low: bool = False
) -> list[str]:
    """What is wrong with a number that has to lie within a range."""
    upper = f"to {high:g}" if math.isfinite(high) else "or more"
    accepted = (
        f"a finite number {'above ' if open_low else ''}{low:g} {upper}"
        if math.isfinite(low)
        else (f"a finite number below {high:g}")
    )
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return [f"{name}={value!r}: needs {accepted}"]
    inside = low < value <= high if open_low else low <= value <= high
    return [] if inside and math.isfinite(value) else [f"{name}={value!r}: needs {accepted}"]


def integer_problems(name: str, value: object, low: int) -> list[str]:
    """What is wrong with a whole number that has a least value."""
    right = isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= low
    return [] if right else [f"{name}={value!r}: needs a whole number, {low} or more"]
