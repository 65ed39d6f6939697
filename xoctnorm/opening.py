"""Open volumes in the formats that people have, lazily and in physical units."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from xoctnorm.checks import number_problems
from xoctnorm.errors import collecting, listed, raise_problems, warn
from xoctnorm.formats.choosing import reader_of
from xoctnorm.formats.common import Wanted


def open_volume(
    path: str | os.PathLike[str],
    *,
    variable: str | None = None,
    level: int | None = None,
    dims: Sequence[str] | None = None,
    spacing: Mapping[str, float] | None = None,
    units: str | None = None,
) -> xr.DataArray:
    """Open a volume lazily, in whole planes and physical units.

    Reads metadata only. The values are read when they are computed, in chunks of whole planes of up to 64 MiB, in
    threads, processes or on a cluster that sees the path.

    - **NetCDF, Zarr**: everything as xarray reads it. What `to_netcdf` and `to_zarr` wrote comes back with everything
      attached.
    - **OME-Zarr** 0.4 and 0.5: scale and translation become coordinates. What `to_ome_zarr` wrote comes back with
      sections and what was fitted.
    - **TIFF**: a stack, or files that follow each other along z, in the order of the numbers in their names (2 before
      10); the coordinate ``file`` says which plane came from which. Spacing comes from OME, ImageJ or the resolution.
    - **NIfTI**: coordinates are voxel sizes from 0; the affine is an attribute.
    - **NumPy**: dims are z, y, x; there are no coordinates unless you say ``spacing`` and ``units``.

    Parameters
    ----------
    path
        A file, a folder, an address of a Zarr store (``"s3://…"``), or a pattern of TIFF files with ``*``.
    variable
        Which variable of a NetCDF file or Zarr store, where there are several volumes.
    level
        Which level of a pyramid; 0, the default, is the finest.
    dims
        Names of the dims, in the order of the file (NIfTI: x, y, z), where the file has none or others.
    spacing
        Distance of neighbours by dim, for instance ``{"z": 10, "y": 2, "x": 2}``: in place of what the file says.
    units
        Units of ``spacing``, and of coordinates that have none, for instance ``"um"``.

    Returns
    -------
    xarray.DataArray
        The volume with dims …, z, y, x, chunked.

    Raises
    ------
    InputError
        All that is wrong with the call, in one message: a missing file, a suffix that is not known, a package that is
        not installed, several volumes where one is needed.

    Warns
    -----
    OctnormWarning
        Where coordinates have no units, or only some of z, y, x have coordinates; where files seem to be missing.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import numpy as np
    >>> import xoctnorm
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "brain.npy"
    ...     np.save(path, np.ones((4, 3, 3), "float32"))
    ...     volume = xoctnorm.open_volume(path, spacing={"z": 10, "y": 2, "x": 2}, units="um")
    ...     print(volume.dims, volume.z.values, volume.z.units, float(volume.sum()))
    ('z', 'y', 'x') [ 0. 10. 20. 30.] um 36.0
    """
    problems = [*_option_problems(variable, level, dims, spacing, units)]
    wanted = Wanted(
        variable if isinstance(variable, str) else None,
        int(level) if isinstance(level, int | np.integer) and not isinstance(level, bool) else None,
        None if dims is None or isinstance(dims, str) else tuple(dims),
    )
    volume = None
    with collecting(problems):
        volume = reader_of(path)(wanted)
    if volume is not None:
        problems += _volume_problems(volume, spacing, units)
    raise_problems("open_volume", problems)
    assert volume is not None
    volume = _placed(volume, spacing, units)
    volume.encoding.setdefault(
        "source", os.fspath(path) if "://" in str(path) else str(Path(path).expanduser().resolve())
    )
    return volume.transpose(..., "z", "y", "x")


def _option_problems(variable: object, level: object, dims: object, spacing: object, units: object) -> list[str]:
    problems = []
    if variable is not None and not isinstance(variable, str):
        problems.append(f"variable={variable!r}: needs the name of a variable")
    if level is not None and (isinstance(level, bool) or not isinstance(level, int | np.integer)):
        problems.append(f"level={level!r}: needs a whole number, 0 or more")
    if dims is not None:
        names = list(dims) if isinstance(dims, Sequence) and not isinstance(dims, str) else []
        if not {"z", "y", "x"} <= set(names) or len(set(names)) < len(names):
            problems.append(f"dims={dims!r}: needs different names, z, y and x among them, as in ('z', 'y', 'x')")
    if isinstance(spacing, Mapping):
        for dim, step in spacing.items():
            problems += number_problems(f"spacing[{dim!r}]", step, 0, open_low=True)
        if units is None:
            problems.append(f"spacing={dict(spacing)} has no units: say them too, for instance units='um'")
    elif spacing is not None:
        problems.append(f"spacing={spacing!r}: needs a number by dim, for instance {{'z': 10, 'y': 2, 'x': 2}}")
    if units is not None and not (isinstance(units, str) and units.strip()):
        problems.append(f"units={units!r}: needs text, for instance 'um'")
    return problems


def _volume_problems(volume: xr.DataArray, spacing: Mapping[str, float] | None, units: str | None) -> list[str]:
    problems = []
    lacking = [dim for dim in ("z", "y", "x") if dim not in volume.dims]
    if lacking:
        problems.append(
            f"the file has dims {volume.dims} of sizes {volume.shape} and lacks {listed([repr(d) for d in lacking])}: "
            "say what they are, in this order, for instance dims=('z', 'y', 'x')"
        )
    given = spacing if isinstance(spacing, Mapping) else {}
    problems += [f"spacing has {dim!r}: the volume has dims {volume.dims}" for dim in given if dim not in volume.dims]
    for dim in ("z", "y", "x"):
        own = volume.coords[dim].attrs.get("units") if dim in volume.coords else None
        if units is not None and own not in (None, units) and dim not in given:
            problems.append(
                f"units={units!r}: the file has {dim} in {own!r}; leave units out, or say spacing for {dim} too"
            )
    return problems


def _placed(volume: xr.DataArray, spacing: Mapping[str, float] | None, units: str | None) -> xr.DataArray:
    """Give the volume the spacing and units of the call, and say what is still not known."""
    for dim, step in (spacing or {}).items():
        volume = volume.assign_coords({dim: (dim, float(step) * np.arange(volume.sizes[dim]), {"units": units})})
    have = [dim for dim in ("z", "y", "x") if dim in volume.coords]
    unitless = [dim for dim in have if not volume[dim].attrs.get("units")]
    if units is not None:
        for dim in unitless:
            volume = volume.assign_coords({dim: volume[dim].assign_attrs(units=units)})
    elif unitless:
        warn(f"the file does not say in which units {listed(unitless)} are: say units=, for instance units='um'")
    if 0 < len(have) < 3:
        lacking = [dim for dim in ("z", "y", "x") if dim not in have]
        warn(f"the file does not say the spacing along {listed(lacking)}: say spacing= and units=")
    return volume
