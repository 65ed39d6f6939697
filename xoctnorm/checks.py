"""What is wrong with a volume, a mask or a parameter, as far as metadata tells."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm.errors import listed
from xoctnorm.kernels.backend import to_host
from xoctnorm.metadata import ATTACHED, RESERVED
from xoctnorm.provenance import is_ours

_UNDECODED = ("scale_factor", "add_offset", "_FillValue")
# With less data a background, a mask, or what a section has of its own can't be trusted.
FEWEST_AGAROSE_PIXELS = 100
FEWEST_SECTION_VOXELS = 500


def volume_problems(da: xr.DataArray) -> list[str]:
    """Dims, dtype, size and attributes that make a DataArray no volume."""
    problems = dims_problems(da, ("z", "y", "x"))
    if da.dtype.kind not in "iuf":
        problems.append(f"the volume has dtype {da.dtype}: integers and floats are accepted; {_remedy(da.dtype)}")
    empty = [str(dim) for dim, size in zip(da.dims, da.shape, strict=True) if size == 0]
    if empty:
        problems.append(f"the volume is empty along {listed([repr(d) for d in empty])}: its shape is {da.shape}")
    undecoded = [name for name in _UNDECODED if name in da.attrs]
    if undecoded:
        problems.append(
            f"the attributes {listed([f'{n}={da.attrs[n]!r}' for n in undecoded])} of the volume were never "
            "decoded, so its values are not intensities: open the file with decoding on, or decode the dataset "
            "with xr.decode_cf"
        )
    return problems


def dims_problems(da: xr.DataArray, needed: tuple[str, ...]) -> list[str]:
    """Dims that are missing, doubled, or have names that a result needs."""
    missing = [repr(dim) for dim in needed if dim not in da.dims]
    problems = []
    if missing:
        problems.append(
            f"the volume has dims {da.dims} and lacks {listed(missing)}: a volume has dims z, y and x in any order; "
            "rename yours with da.rename({'old': 'new'})"
        )
    doubled = [repr(dim) for dim, count in Counter(da.dims).items() if count > 1]
    if doubled:
        problems.append(f"the volume has the dim {listed(doubled)} twice: {da.dims}; rename one of them")
    odd = [repr(dim) for dim in da.dims if not isinstance(dim, str) or dim in RESERVED]
    if odd:
        problems.append(
            f"the volume has the dim {listed(odd)}, a name that a result needs for itself or that is no text: "
            "rename it with da.rename({…})"
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
        if dim in mask.coords and dim in da.coords and not same_coordinate(mask.coords[dim], da.coords[dim])
    ]


def same_coordinate(one: xr.DataArray, other: xr.DataArray) -> bool:
    """Whether two coordinates of one size agree, numbers within 1 % of their spacing."""
    a, b = one.to_numpy(), other.to_numpy()
    if a.dtype.kind in "iuf" and b.dtype.kind in "iuf":
        return bool(np.array_equal(*rounded_together(a, b), equal_nan=True))
    return bool(np.array_equal(a, b))


def rounded_together(a: NDArray[Any], b: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Two numeric coordinates, the first made equal to the second where they differ by at most 1 % of its spacing."""
    a, b = a.astype(float), b.astype(float)
    spacing = np.median(np.abs(np.diff(b))) if b.size > 1 else max(np.abs(b).max(), 1e-4)
    return np.where(np.abs(a - b) <= 0.01 * spacing, b, a), b


def coverage_problems(name: str, mask: NDArray[np.bool_]) -> list[str]:
    """What makes an agarose mask useless: hardly any agarose in any of its images, or nothing else."""
    size = mask.shape[-2] * mask.shape[-1]
    counts = to_host(mask.sum(axis=(-2, -1)))
    n_agarose = int(counts.max(initial=0))
    if (counts == size).all():
        return [f"{name} is True everywhere: no tissue is left to normalize"]
    if n_agarose < FEWEST_AGAROSE_PIXELS:
        return [
            f"{name} has {n_agarose or 'no'} agarose pixels of {size}: at least {FEWEST_AGAROSE_PIXELS} are "
            "needed for a background; pass a mask that is True on agarose with agarose_mask="
        ]
    return []


def number_problems(
    name: str, value: object, low: float, high: float = math.inf, *, open_low: bool = False
) -> list[str]:
    """What is wrong with a number that has to lie within a range."""
    accepted = "a finite number"
    if math.isfinite(low):
        accepted += (
            f" above {low:g}" if open_low else f", {low:g} {f'to {high:g}' if math.isfinite(high) else 'or more'}"
        )
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return [f"{name}={value!r}: needs {accepted}"]
    inside = low < value <= high if open_low else low <= value <= high
    return [] if inside and math.isfinite(value) else [f"{name}={value!r}: needs {accepted}"]


def integer_problems(name: str, value: object, low: int) -> list[str]:
    """What is wrong with a whole number that has a least value."""
    right = isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= low
    return [] if right else [f"{name}={value!r}: needs a whole number, {low} or more"]
