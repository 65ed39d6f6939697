"""Files of the command line: what is read, and where results go."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import xarray as xr

from xoctnorm.agarose import Mask
from xoctnorm.applying import Form
from xoctnorm.corrections import METHODS
from xoctnorm.errors import InputError, collecting, listed, raise_problems
from xoctnorm.files import sync
from xoctnorm.opening import open_volume
from xoctnorm.recipes import assign_sections
from xoctnorm.settings import Normalization
from xoctnorm.zarr_place import find_place

SUFFIXES = (".ome.zarr", ".zarr", ".nc")


@dataclass(frozen=True)
class Input:
    """Which volume is meant, as options say it."""

    path: str
    variable: str | None
    level: int | None
    spacing: tuple[float, float, float] | None
    units: str | None
    section_size: int | None
    sections: str | None

    def opened(self) -> xr.DataArray:
        """The volume, lazily, with its sections."""
        if self.section_size is not None and self.sections is not None:
            raise click.UsageError("--section-size and --sections exclude each other: take one of them")
        spacing = None if self.spacing is None else dict(zip(("z", "y", "x"), self.spacing, strict=True))
        volume = open_volume(self.path, variable=self.variable, level=self.level, spacing=spacing, units=self.units)
        if self.section_size is not None:
            return _starting_at(volume, list(range(0, volume.sizes["z"], self.section_size)))
        return volume if self.sections is None else _with_sections(volume, self.sections)


def _starting_at(volume: xr.DataArray, starts: Sequence[int]) -> xr.DataArray:
    """The volume with sections that start at these planes, in place of those that the file may have."""
    return assign_sections(volume.drop_vars("section", errors="ignore"), None, None, starts)


def _with_sections(volume: xr.DataArray, file: str) -> xr.DataArray:
    """The volume with sections from a table with one label per plane, or with the first plane of each section."""
    try:
        table = pd.read_csv(file, skipinitialspace=True, comment="#")
    except (OSError, ValueError) as error:
        raise InputError("--sections", [f"{file!r} cannot be read as a table: {error}"]) from error
    columns = [name for name in ("section", "start") if name in table.columns]
    if len(columns) != 1:
        problem = (
            f"{file!r} has the columns {listed([repr(str(name)) for name in table.columns])}: the first line has to "
            "be the heading 'section', and one label per plane below it, or 'start', and the first plane of every "
            "section below it, counted from 0"
        )
        raise_problems("--sections", [problem])
    values = table[columns[0]]
    if columns == ["start"]:
        return _starting_at(volume, values.to_list())
    if len(values) != volume.sizes["z"]:
        problem = f"{file!r} has {len(values)} labels: one for each of the {volume.sizes['z']} planes is needed"
        raise_problems("--sections", [problem])
    labels = ("z", values.to_numpy(), {"long_name": "serial section", "units": "1"})
    return volume.drop_vars("section", errors="ignore").assign_coords(section=labels)


def opened_mask(text: str | None, methods: Collection[str] = METHODS) -> Mask | str | None:
    """The mask that --agarose-mask names: a method, where there are some, or a file."""
    if text is None or text in methods:
        return text
    path = Path(text)
    if not path.exists():
        known = (
            f"neither a method ({listed([repr(method) for method in methods])}) nor a file" if methods else "no file"
        )
        raise click.BadParameter(f"{text!r} is {known}", param_hint="'--agarose-mask'")
    mask: Mask
    if path.suffix == ".npy":
        mask = np.load(path, allow_pickle=False)
    else:
        with xr.open_dataset(path) as ds:
            names = [name for name in ds.data_vars if ds[name].ndim >= 2]
            if len(names) != 1:
                problem = f"{text!r} has {listed(names) or 'no variables'}: one variable, the mask, is needed"
                raise_problems("--agarose-mask", [problem])
            mask = ds[names[0]].load()
    # Files often have masks as 0 and 1.
    return mask.astype(bool) if mask.dtype.kind in "iu" and np.isin(mask, (0, 1)).all() else mask


def opened_correction(path: str) -> xr.Dataset:
    """A correction that was written by `xoctnorm fit`, or by ``Dataset.to_netcdf``."""
    try:
        return xr.load_dataset(path)
    except (OSError, ValueError) as error:
        raise InputError("correction", [f"{path!r} cannot be read as a correction: {error}"]) from error


def suffix_of(path: str, suffixes: tuple[str, ...] = SUFFIXES) -> str:
    """The suffix of a file to be written, which says its format."""
    for suffix in suffixes:
        if path.rstrip("/").lower().endswith(suffix):
            return suffix
    raise click.UsageError(f"{path!r}: the suffix says the format, and has to be one of {listed(suffixes)}")


def check_target(path: str, overwrite: bool, source: str) -> None:
    """Refuse, before hours are spent, what could not be written, or would replace what is read."""
    if "://" in path:
        return
    target, problems = Path(path).expanduser().resolve(), []
    read = Path(source).expanduser()
    if overwrite and target.exists() and read.exists() and target.samefile(read):
        raise_problems("output", [f"{path!r} is the file that the volume was read from: choose another path"])
    if target.is_dir() and suffix_of(path) == ".nc":
        problems.append(f"{path!r} is a folder, and a file is needed: choose another path")
    elif target.exists() and overwrite and suffix_of(path) != ".nc" and not find_place(path).is_store():
        problems.append(f"{path!r} exists and is no Zarr store: choose another path, or remove it")
    if not target.parent.is_dir():
        problems.append(f"{path!r}: the folder {str(target.parent)!r} does not exist; create it, or choose another")
    elif not os.access(target.parent, os.W_OK | os.X_OK):
        problems.append(f"{path!r}: the folder {str(target.parent)!r} is not writable; choose another")
    if target.exists() and not overwrite:
        problems.append(f"{path!r} exists: pass --overwrite to replace it, or choose another path")
    raise_problems("output", problems)


def check_report(path: str, overwrite: bool, volume: xr.DataArray) -> None:
    """Refuse, before hours are spent, a report that could not be written."""
    from xoctnorm.plot.series import series_of
    from xoctnorm.report.writing import report_problems

    problems = report_problems(path)
    if Path(path).expanduser().exists() and not overwrite:
        problems.append(f"{path!r} exists: pass --overwrite to replace it, or choose another path")
    with collecting(problems):
        series_of("--report", volume)
    raise_problems("--report", problems)


def normalized(volume: xr.DataArray, call: Mapping[str, Any]) -> tuple[xr.DataArray, xr.Dataset]:
    """The result of `normalize`, and the correction that led to it."""
    from xoctnorm import recipes

    settings = Normalization(**{name: value for name, value in call.items() if name != "agarose_mask"})
    return recipes.normalize_and_keep(volume, settings, call["agarose_mask"], Form())


def write_volume(volume: xr.DataArray, path: str, overwrite: bool) -> None:
    """Write a result in the format of the suffix."""
    suffix = suffix_of(path)
    if suffix == ".nc":
        volume.octnorm.to_netcdf(path)
    elif suffix == ".zarr":
        volume.octnorm.to_zarr(path, overwrite=overwrite)
    else:
        volume.octnorm.to_ome_zarr(path, overwrite=overwrite)


def write_correction(correction: xr.Dataset, path: str) -> None:
    """Write a correction, all or nothing."""
    target = Path(path).expanduser().resolve()
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", suffix=".partial", dir=target.parent) as folder:
        partial = Path(folder) / "correction.nc"
        correction.to_netcdf(partial)
        sync(partial)
        partial.replace(target)
    sync(target.parent)
