"""TIFF: stacks, and folders of planes or stacks."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm.errors import listed, warn
from xoctnorm.formats.common import Region, Wanted, evenly, fail, read_lazily

_DIMS = {"X": "x", "Y": "y", "Z": "z", "C": "channel", "T": "time", "S": "sample"}
_UNSAID = ("I", "Q")  # a sequence of pages, and nothing says of what
_UM_PER_RESOLUTION_UNIT = {2: 25400.0, 3: 10000.0}  # inch, centimetre
# Pixels per inch that programs write which know none.
_NO_RESOLUTION = (72, 96, 150, 300)


def read_tiff(paths: Sequence[Path], wanted: Wanted) -> xr.DataArray:
    """Open a file, or several that follow each other along z in the order of the numbers in their names."""
    wanted.only("variable", "NetCDF and Zarr")
    wanted.only("level", "pyramids of OME-Zarr")
    paths = sorted(paths, key=_natural)
    if len(paths) == 1:
        axes, shape, dtype, spacing, units = _describe(paths[0])
        dims = wanted.names(_names(axes), shape)
        volume = read_lazily(partial(_read, paths[0]), paths[0], dims, shape, dtype)
        return evenly(volume, spacing, units)
    return _read_folder(paths, wanted)


def _read_folder(paths: Sequence[Path], wanted: Wanted) -> xr.DataArray:
    _check_names(paths)
    told = [_describe(path) for path in paths]
    planes = []
    different = []
    first = told[0]
    for path, (axes, shape, dtype, *_) in zip(paths, told, strict=True):
        if len(shape) not in (2, 3) or shape[-2:] != first[1][-2:] or dtype != first[2]:
            different.append(f"{path.name} {shape} {dtype} ({axes})")
        planes.append(shape[0] if len(shape) == 3 else 1)
    if different:
        fail(
            f"files of one stack hold planes of one size and dtype; {paths[0].name} has {first[1]} {first[2]}, and "
            f"others are {listed(different)}: choose files with a pattern, for instance 'folder/plane_*.tif'"
        )
    ends = np.cumsum(planes)
    shape = (int(ends[-1]), *first[1][-2:])
    dims = wanted.names(("z", "y", "x"), shape)
    read = partial(_read_files, [str(path) for path in paths], ends)
    volume = read_lazily(read, paths[0].parent, dims, shape, first[2])
    volume = evenly(volume, {dim: step for dim, step in first[3].items() if dim != "z" or planes[0] > 1}, first[4])
    if "z" not in volume.dims:
        return volume
    return volume.assign_coords(file=("z", np.repeat([path.name for path in paths], planes)))


def _natural(path: Path) -> list[str | int]:
    """Key by which 2 comes before 10."""
    return [int(part) if n % 2 else part for n, part in enumerate(re.split(r"(\d+)", path.name))]


def _check_names(paths: Sequence[Path]) -> None:
    """Refuse names that are not one series, and warn where a number seems to be missing."""
    patterns = {re.sub(r"\d+", "#", path.name) for path in paths}
    if len(patterns) > 1:
        fail(
            f"the {len(paths)} TIFF files are not one series: their names are like {listed(sorted(patterns))}; choose "
            "some with a pattern, for instance 'folder/plane_*.tif'"
        )
    numbers = np.array([[int(part) for part in re.findall(r"\d+", path.name)] for path in paths])
    varying = [column for column in numbers.T if (column != column[0]).any()]
    if len(varying) == 1:
        steps = np.diff(varying[0])
        odd = np.flatnonzero(steps != np.median(steps))
        if odd.size:
            before = listed([paths[n].name for n in odd.tolist()])
            warn(
                f"files seem to be missing: after {before} the number jumps; planes are taken to follow each other all "
                "the same"
            )


def _describe(path: Path) -> tuple[str, tuple[int, ...], np.dtype[Any], dict[str, float], dict[str, str | None]]:
    """Axes, shape, dtype, spacing and units of a file, from its metadata."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as tif:
            if len(tif.series) != 1:
                fail(
                    f"path={str(path)!r} holds {len(tif.series)} images, {listed([s.shape for s in tif.series])}: save "
                    "the one that is the volume in a file of its own"
                )
            series = tif.series[0]
            return series.axes, series.shape, np.dtype(series.dtype), *_spacing(tif, _names(series.axes))
    except tifffile.TiffFileError as error:
        fail(f"path={str(path)!r} is no TIFF file ({error})")


def _names(axes: str) -> tuple[str, ...]:
    """Dims by the letters of TIFF. Pages of which nothing says what they are, are planes along z."""
    unsaid = [axis for axis in axes if axis in _UNSAID]
    if len(unsaid) == 1 and "Z" not in axes:
        axes = axes.replace(unsaid[0], "Z")
    return tuple(_DIMS.get(axis, f"dim_{axis.lower()}") for axis in axes)


def _spacing(tif: Any, dims: Sequence[str]) -> tuple[dict[str, float], dict[str, str | None]]:
    """Spacing and units by dim, as far as OME, ImageJ or the resolution tell."""
    if tif.is_ome:
        return _spacing_of_ome(tif.ome_metadata)
    page, steps = tif.pages[0], {}
    for dim, tag in (("y", "YResolution"), ("x", "XResolution")):
        pixels, length = page.tags[tag].value if tag in page.tags else (1, 1)
        if pixels and length:
            steps[dim] = length / pixels
    about = tif.imagej_metadata or {}
    if about:
        unit = about.get("unit")
        if unit in (None, "", "pixel", "pixels"):
            return {}, {}
        if "z" in dims and "spacing" in about:
            steps["z"] = float(about["spacing"])
        return steps, dict.fromkeys(steps, _unit(str(unit)))
    um = _UM_PER_RESOLUTION_UNIT.get(int(page.tags["ResolutionUnit"].value) if "ResolutionUnit" in page.tags else 1)
    if um is None:
        return ({}, {}) if set(steps.values()) <= {1.0} else (steps, {})
    if um == 25400.0 and {round(1 / step) for step in steps.values()} <= set(_NO_RESOLUTION):
        warn(
            f"the resolution of {1 / steps['x']:.0f} pixels per inch is what programs write that know none, and is "
            "left out: say spacing= and units="
        )
        return {}, {}
    return {dim: step * um for dim, step in steps.items()}, dict.fromkeys(steps, "um")


def _spacing_of_ome(xml: str) -> tuple[dict[str, float], dict[str, str | None]]:
    """Physical sizes of pixels; OME's unit is the micrometre where none is said."""
    pixels = ET.fromstring(xml).find(".//{*}Pixels")
    about = {} if pixels is None else pixels.attrib
    found = {dim: about[f"PhysicalSize{dim.upper()}"] for dim in "zyx" if f"PhysicalSize{dim.upper()}" in about}
    units = {dim: _unit(about.get(f"PhysicalSize{dim.upper()}Unit", "um")) for dim in found}
    return {dim: float(size) for dim, size in found.items()}, dict(units)


def _unit(unit: str) -> str:
    """Units as UDUNITS knows them."""
    unit = unit.encode().decode("unicode_escape") if "\\u" in unit else unit
    return {"µm": "um", "μm": "um", "micron": "um", "microns": "um"}.get(unit, unit)


def _read_files(paths: Sequence[str], ends: NDArray[np.int64], region: Region) -> NDArray[Any]:
    """Planes of several files that follow each other."""
    planes, *rest = region
    parts = []
    for path, start, stop in zip(paths, [0, *ends[:-1].tolist()], ends.tolist(), strict=True):
        first, last = max(planes.start, start), min(planes.stop, stop)
        if first < last:
            parts.append(_read(Path(path), (slice(first - start, last - start), *rest)))
    return np.concatenate(parts)


def _read(path: Path, region: Region) -> NDArray[Any]:
    """A region of a file; only its pages are read. A plane that is a file of its own has no axis for pages."""
    import tifffile

    with tifffile.TiffFile(path) as tif:
        series = tif.series[0]
        single = len(region) - len(series.shape)
        shape = (1,) * single + series.shape
        if series.dataoffset is not None:
            dtype = np.dtype(series.dtype).newbyteorder(tif.byteorder)
            mapped = np.memmap(path, dtype, "r", series.dataoffset, shape)
            return np.array(mapped[region], dtype.newbyteorder("="))
        n_lead = len(shape) - len(series.keyframe.shape)
        lead, within = region[:n_lead], region[n_lead:]
        numbers = np.arange(np.prod(shape[:n_lead], dtype=int)).reshape(shape[:n_lead])[lead]
        pages = []
        for number in numbers.ravel():
            page = series.pages[int(number)]
            if page is None:
                raise OSError(f"{path}: page {number} is missing")
            pages.append(page.asarray()[within])
        return np.stack(pages).reshape(*numbers.shape, *pages[0].shape)
