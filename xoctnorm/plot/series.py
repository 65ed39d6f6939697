"""A volume as pictures need it: planes in order, their places along z, sections, and what was fitted."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm import provenance
from xoctnorm.agarose import AgaroseMask, Mask, labelled_agarose
from xoctnorm.checks import dims_problems, volume_problems
from xoctnorm.errors import listed, raise_problems
from xoctnorm.matching import correction_problems, mismatches
from xoctnorm.metadata import ATTACHED
from xoctnorm.sections import Sections, find_sections, plane_dims
from xoctnorm.text import escaped
from xoctnorm.volume import PlaneMasks, Planes, extra_dims

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """A volume without further dims, and what is known of it.

    Attributes
    ----------
    volume
        The volume, in its own order of dims.
    fitted
        Fitted numbers: the correction that was given, else what is attached to the volume.
    dims
        Dims that number planes.
    section
        Name of what groups planes.
    sections
        Section of every plane.
    z
        Place of every plane along z, rising or falling: the coordinate, else the number of the plane.
    z_label
        What that is, with its units.
    """

    volume: xr.DataArray
    fitted: xr.Dataset
    dims: tuple[str, ...]
    section: str
    sections: Sections
    z: Numbers
    z_label: str

    def __len__(self) -> int:
        return len(self.z)

    @property
    def planes(self) -> Planes:
        """The planes, to be read in order; what is read does not stay in the volume of the user."""
        ordered = self.volume.variable.transpose(*self.dims, "y", "x")
        return Planes(ordered[tuple(slice(None) for _ in ordered.dims)])

    def of_plane(self, array: xr.DataArray, number: int) -> xr.DataArray:
        """Part of an array that belongs to a plane, by the number of the plane."""
        place = np.unravel_index(number, [self.volume.sizes[dim] for dim in self.dims])
        return array.isel({dim: int(at) for dim, at in zip(self.dims, place, strict=True) if dim in array.dims})

    def per_plane(self, name: str) -> Numbers | None:
        """A fitted number of every plane, in plane order; None where it was not fitted."""
        if name not in self.fitted:
            return None
        values = self.fitted[name].variable.set_dims({dim: self.volume.sizes[dim] for dim in self.dims})
        return np.asarray(values.transpose(*self.dims).to_numpy(), float).reshape(-1)

    def per_section(self, name: str) -> NDArray[np.generic] | None:
        """A fitted number, or text, of every section; None where the tables are not at hand."""
        return self.fitted[name].to_numpy() if name in self.fitted else None

    @property
    def middles(self) -> Numbers:
        """Middle of every section along z."""
        first = self.sections.first_plane
        last = first + self.sections.n_planes - 1
        middles: Numbers = (self.z[first] + self.z[last]) / 2
        return middles

    @property
    def cuts(self) -> Numbers:
        """Places along z between a section and the next."""
        first = self.sections.first_plane[1:]
        cuts: Numbers = (self.z[first] + self.z[first - 1]) / 2
        return cuts

    def recorded(self, correction: str, parameter: str) -> object:
        """A parameter of a correction in the last step that has it; None where none does."""
        for step in reversed(provenance.steps_of(self.fitted.attrs) or provenance.steps_of(self.volume.attrs)):
            for one in step["corrections"]:
                if one["name"] == correction:
                    return one["parameters"].get(parameter)
        return None

    def agarose(self, mask: Mask | None = None) -> AgaroseMask | PlaneMasks | None:
        """The mask of every plane: as given, of the correction or attached; None where none fits the field."""
        found = self.agarose_mask(mask)
        if found is None:
            return None
        if set(self.dims) & set(found.dims):
            # The masks of the planes of a result: read once, block by block.
            return PlaneMasks(found.variable.transpose(*self.dims, "y", "x"))
        return AgaroseMask(found.variable.transpose(..., "y", "x"), self.sections.index)

    def agarose_mask(self, mask: Mask | None = None) -> xr.DataArray | None:
        """The mask with dims that are known: `(y, x)`, with `section_label`, or with those of planes."""
        if mask is not None:
            return labelled_agarose("agarose_mask", mask, self.volume, self.section, self.sections)
        if "agarose_mask" not in self.fitted:
            return None
        found = self.fitted["agarose_mask"]
        fits = all(found.sizes[dim] == self.volume.sizes[dim] for dim in ("y", "x"))
        return (found if found.dtype == bool else found.astype(bool)) if fits else None


def series_of(call: str, da: xr.DataArray, correction: xr.Dataset | None = None) -> Series:
    """Look at the metadata of a volume and of a correction, and report all that is wrong with them."""
    problems = volume_problems(da)
    if correction is not None:
        problems += correction_problems(correction)
        if not problems:
            problems += mismatches(da, correction, "position")
    raise_problems(call, problems)
    section = provenance.section_name(da, {} if correction is None else correction.attrs)
    problems = [
        f"the volume has {da.sizes[dim]} along {dim}, and a picture shows one volume: choose with da.isel({dim}=0)"
        for dim in extra_dims(da, section)
        if da.sizes[dim] > 1
    ]
    raise_problems(call, problems)
    alone = dict.fromkeys(extra_dims(da, section), 0)
    volume = da.isel(alone)  # keeps what is attached along these dims
    if correction is None:
        ours = [name for name in ATTACHED if name in volume.coords and provenance.is_ours(volume.coords[name])]
        fitted = xr.Dataset({name: volume.coords[name].variable for name in ours})
    else:
        fitted = correction.isel({dim: 0 for dim in alone if dim in correction.dims})
    dims = plane_dims(volume, section)
    sections = find_sections(volume, section)
    z, z_label = places_along_z(volume, dims)
    return Series(volume, fitted, dims, section, sections, z, z_label)


def of_same_planes(call: str, before: xr.DataArray | None, after: Series) -> Series | None:
    """The volume before a correction, whose planes are those of the volume after it."""
    if before is None:
        return None
    if not isinstance(before, xr.DataArray):
        got = type(before).__name__
        raise_problems(call, [f"before needs a DataArray, the volume that was corrected, got {got}"])
    problems = volume_problems(before)
    if not problems:
        other = [
            f"{dim} has {before.sizes.get(dim, 'no such dim')} instead of {size}"
            for dim, size in after.volume.sizes.items()
            if before.sizes.get(dim) != size
        ]
        if other:
            problems = [f"before has other planes than the volume: {listed(other)}; pass the volume that was corrected"]
    raise_problems(call, problems)
    alone = {dim: 0 for dim in before.dims if dim not in after.volume.dims and before.sizes[dim] == 1}
    volume = before.isel(alone)
    raise_problems(call, dims_problems(volume, tuple(str(dim) for dim in after.volume.dims)))
    return Series(volume, after.fitted, after.dims, after.section, after.sections, after.z, after.z_label)


def places_along_z(da: xr.DataArray, dims: tuple[str, ...]) -> tuple[Numbers, str]:
    """Place of every plane along z and what it is: the coordinate where it goes one way, else the number."""
    n_planes = int(np.prod([da.sizes[dim] for dim in dims]))
    if len(dims) == 1 and "z" in da.coords and da.coords["z"].dtype.kind in "iuf":
        z = np.asarray(da.coords["z"].to_numpy(), float)
        steps = np.diff(z)
        if np.isfinite(z).all() and ((steps > 0).all() or (steps < 0).all()):
            return z, label(da.coords["z"])
    return np.arange(n_planes, dtype=float), "plane"


def places_along(da: xr.DataArray, dim: str) -> tuple[Numbers, str]:
    """Places of pixels along y or x, and what they are: the coordinate, else the number of the pixel."""
    if dim in da.coords and da.coords[dim].dtype.kind in "iuf":
        values = np.asarray(da.coords[dim].to_numpy(), float)
        steps = np.diff(values)
        if np.isfinite(values).all() and ((steps > 0).all() or (steps < 0).all()):
            return values, label(da.coords[dim])
    return np.arange(da.sizes[dim], dtype=float), pixels_of(dim)


def pixels_of(dim: str) -> str:
    """Label of an axis along y or x where no coordinate tells places."""
    return f"{dim} (pixels)"


def label(array: xr.DataArray, fallback: str = "intensity") -> str:
    """Name and units of an array, as axes show them: from its attributes."""
    name = array.attrs.get("long_name", array.name if array.name is not None else fallback)
    units = units_of(array)
    return f"{drawn(name, 36)} ({drawn(units)})" if units else drawn(name, 36)


def narrow(text: str, width: int = 26) -> str:
    """Text in lines that have room below half of a column."""
    return textwrap.fill(text, width)


def drawn(text: object, most: int = 12) -> str:
    """Text as matplotlib takes it, in one line, and shortened where it is long."""
    line = " ".join(escaped(str(text)).split())
    # A dollar sign begins mathematics.
    return (line if len(line) <= most else f"{line[: most - 1]}…").replace("$", r"\$")


def units_of(array: xr.DataArray) -> str:
    """Units as people write them; nothing where there are none."""
    units = str(array.attrs.get("units", ""))
    known = {"um": "µm", "micrometer": "µm", "micrometre": "µm", "micron": "µm", "millimeter": "mm", "1": ""}
    return known.get(units, units)
