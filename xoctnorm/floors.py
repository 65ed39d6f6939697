"""The noise floor that a user gives, or that an earlier step has taken off."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from xoctnorm import provenance
from xoctnorm.agarose import Mask
from xoctnorm.checks import same_coordinate
from xoctnorm.corrections.intensity import AUTO
from xoctnorm.corrections.tissue_drift import FROM_MASK
from xoctnorm.errors import listed, raise_problems
from xoctnorm.sections import plane_dims
from xoctnorm.settings import Normalization


def without_noise_mask(da: xr.DataArray, settings: Normalization) -> tuple[Normalization, Mask | None]:
    """Settings that can be recorded, and the voxels without signal, where `noise_floor` marks some."""
    value: Any = settings.noise_floor
    if np.dtype(getattr(value, "dtype", float)) == bool and value.ndim > 1:
        return replace(settings, noise_floor=FROM_MASK), value
    if isinstance(value, np.generic | xr.DataArray) and value.ndim == 0:
        return replace(settings, noise_floor=value.item()), None
    if isinstance(value, xr.DataArray):
        return replace(settings, noise_floor=_floor_of_planes(da, value, settings.section)), None
    return settings, None


def _floor_of_planes(da: xr.DataArray, floor: xr.DataArray, section: str) -> tuple[float, ...]:
    """Noise floors with labels, one for every plane, in plane order."""
    dims = plane_dims(da, section)
    if floor.dims in (("depth",), ("plane_depth",)):
        return tuple(floor.to_numpy().tolist())
    if set(floor.dims) != set(dims):
        raise_problems(
            "noise_floor",
            [
                f"noise_floor has dims {floor.dims}: one number, or one for every plane with dims {dims}, is needed; "
                "floors of depths have the dim 'depth', or are a plain list"
            ],
        )
    other = [
        str(dim)
        for dim in dims
        if dim in floor.coords and dim in da.coords and not same_coordinate(floor.coords[dim], da.coords[dim])
    ]
    if other:
        raise_problems(
            "noise_floor", [f"noise_floor has another {listed(other)} coordinate than the volume: align them"]
        )
    return tuple(floor.transpose(*dims).to_numpy().reshape(-1).tolist())


def going_on(
    da: xr.DataArray, settings: Normalization, noise_mask: Mask | None
) -> tuple[Normalization, Mask | None, list[str]]:
    """Settings for a volume that an earlier step brought to linear intensity and took the noise floor off."""
    if not provenance.without_floor(da.attrs):
        return settings, noise_mask, []
    given = [name for name in ("noise_floor", "intensity") if getattr(settings, name) != AUTO]
    why = "an earlier step took the noise floor off, on linear intensity"
    notes = [f"{listed(given)} has no effect: {why}"] if given else []
    return replace(settings, noise_floor=0.0, intensity="linear"), None, notes
