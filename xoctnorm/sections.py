"""Sections: groups of planes, from coordinates; never guessed."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from xoctnorm.errors import listed, raise_problems

ADD_SECTIONS = (
    "add one with da.octnorm.assign_sections(n=…), (thickness=…) or (starts=[…]), "
    "or name another coordinate with section="
)


@dataclass(frozen=True)
class Sections:
    """Which section every plane belongs to.

    Attributes
    ----------
    labels
        One label per section, in the order of the planes.
    index
        Row of `labels` for every plane, in plane order.
    position
        Place of every section in the series: labels that count sections leave gaps for missing ones.
    explicit
        False where the volume has no section coordinate and so is taken as one section.
    notes
        What the user should know where positions matter.
    """

    labels: tuple[Hashable, ...]
    index: NDArray[np.int64]
    position: NDArray[np.int64]
    explicit: bool = True
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def n_planes(self) -> NDArray[np.int64]:
        """Number of planes of every section."""
        return np.bincount(self.index, minlength=len(self))

    @property
    def first_plane(self) -> NDArray[np.int64]:
        """First plane of every section."""
        return np.searchsorted(self.index, np.arange(len(self)))

    def label_values(self) -> NDArray[np.generic]:
        """Labels as an array that NetCDF can hold: numbers and dates as they are, others as text."""
        values = pd.Index(list(self.labels), tupleize_cols=False)
        if values.dtype.kind in "iufM":
            return np.asarray(values)
        return np.array([str(label) for label in self.labels])


def plane_dims(da: xr.DataArray, section: str) -> tuple[str, ...]:
    """Dims that number the planes of one volume: `("z",)`, or `(section, "z")` with such a dimension.

    With ``section="z"`` every plane is a section, and a dimension ``section`` still numbers planes.
    """
    if section == "z":
        section = "section"
    return (section, "z") if section in da.dims else ("z",)


def find_sections(da: xr.DataArray, section: str = "section") -> Sections:
    """Group the planes of a volume by the coordinate, dimension or index level named `section`.

    Raises
    ------
    InputError
        Where the coordinate is missing (unless it is the default one), does not lie along z, has
        NaN labels, or has labels that come back after another label.
    """
    if section in ("y", "x"):
        raise_problems("section", [f"section={section!r}: sections group planes, so they cannot lie along y or x"])
    dims = plane_dims(da, section)
    if section == "z" and len(dims) == 2:
        pairs = [
            plain_labels(da.coords[dim].to_numpy() if dim in da.coords else np.arange(da.sizes[dim])) for dim in dims
        ]
        return group_labels(list(product(*pairs)), section)
    if section in da.dims:
        labelled = section in da.coords
        values = da.coords[section].to_index().to_numpy() if labelled else np.arange(da.sizes[section])
        if section != "z":
            values = np.repeat(values, da.sizes["z"])
    elif section in da.coords:
        coord = da.coords[section]
        if not set(coord.dims) <= {"z"}:
            raise_problems(
                "section",
                [f"section={section!r} has dims {coord.dims}; it must lie along 'z', one label per plane"],
            )
        values = np.broadcast_to(_read_labels(coord), (da.sizes["z"],))
    elif section != "section":
        known = listed([repr(str(name)) for name, c in da.coords.items() if set(c.dims) <= {"z"}])
        raise_problems(
            "section",
            [f"section={section!r} is no coordinate of the volume; along z there are: {known or 'none'}"],
        )
    else:
        n_planes = int(np.prod([da.sizes[dim] for dim in dims]))
        return Sections((0,), np.zeros(n_planes, np.int64), np.zeros(1, np.int64), explicit=False)
    return group_labels(plain_labels(values), section)


def plain_labels(values: NDArray[Any]) -> list[Hashable]:
    """Labels as plain Python objects; dates as time stamps, since NumPy would make nanoseconds of them."""
    return list(pd.DatetimeIndex(values)) if values.dtype.kind == "M" else values.tolist()


def _read_labels(coord: xr.DataArray) -> NDArray[Any]:
    """Labels of a coordinate, which `da.chunk()` has chunked too.

    They are few, so they are read in this thread, on which no scheduler has to wait; a cluster that may
    hold them is asked for them.
    """
    if coord.chunks is None:
        return coord.to_numpy()
    from dask.base import get_scheduler

    on_cluster = hasattr(getattr(get_scheduler(), "__self__", None), "submit")
    return np.asarray(coord.data.compute() if on_cluster else coord.data.compute(scheduler="synchronous"))


def group_labels(per_plane: Sequence[Hashable], name: str) -> Sections:
    """Group planes by their labels, one for every plane in plane order."""
    problems = []
    missing = [plane for plane, label in enumerate(per_plane) if _is_missing(label)]
    if missing:
        problems.append(
            f"{name} has no label (NaN) on plane {listed(missing)}: give every plane the label of its "
            "section, or drop those planes"
        )
    labels: list[Hashable] = []
    rows: dict[Hashable, int] = {}
    index = np.empty(len(per_plane), np.int64)
    returned: list[str] = []
    previous = -1
    for plane, label in enumerate(per_plane):
        row = rows.setdefault(label, len(labels)) if not _is_missing(label) else previous
        if row == len(labels):
            labels.append(label)
        elif row != previous and row >= 0:
            returned.append(f"{label!r} on plane {plane}")
        index[plane] = previous = row
    if returned:
        problems.append(
            f"{name} has labels that come back after another label: {listed(returned)}. The planes of a "
            f"section must follow each other: sort the volume by {name}, or give each section its own label"
        )
    texts = [str(label) for label in labels]
    if len(set(texts)) < len(texts):
        alike = next(label for label in labels if texts.count(str(label)) > 1)
        problems.append(f"{name} has different labels that read alike, as {alike!r}: give them one type")
    raise_problems("section", problems)
    position, notes = _positions(labels, name)
    return Sections(tuple(labels), index, position, notes=notes)


def _positions(labels: Sequence[Hashable], name: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Place of every section: labels that count sections, else their order."""
    order = np.arange(len(labels))
    integers = all(isinstance(label, int | np.integer) and not isinstance(label, bool) for label in labels)
    if not integers or len(labels) < 2:
        return order, ()
    steps = np.diff(np.array(labels, dtype=object))
    one_way = all(step > 0 for step in steps) or all(step < 0 for step in steps)
    if one_way and min(abs(step) for step in steps) == 1:
        return np.array([abs(int(label) - int(labels[0])) for label in labels], np.int64), ()  # type: ignore[call-overload]
    note = (
        f"the integer labels of {name} ({listed(labels)}) do not count sections (their smallest step is not 1, "
        "or they go up and down): they are taken as names, and no section is taken as missing"
    )
    return order, (note,)


def _is_missing(label: Hashable) -> bool:
    return label is None or label is pd.NaT or bool(label != label)


def sections_table(da: xr.DataArray, sections: Sections) -> pd.DataFrame:
    """Table of sections: label, number of planes, first and last plane, and their z."""
    first = sections.first_plane
    last = first + sections.n_planes - 1
    if "z" in da.coords and len(sections.index) == da.sizes["z"]:
        z = da.coords["z"].to_index()
    else:  # a section dimension repeats z in every section; without a coordinate z is the index
        n = da.sizes["z"]
        base = da.coords["z"].to_index() if "z" in da.coords else pd.RangeIndex(n)
        z = base[np.arange(len(sections.index)) % n]
    return pd.DataFrame(
        {
            "label": list(sections.labels),
            "n_planes": sections.n_planes,
            "first_plane": first,
            "last_plane": last,
            "first_z": z[first],
            "last_z": z[last],
        }
    )


def equal_division(n_planes: int, n_sections: int) -> list[int]:
    """First plane of each of `n_sections`, and the end: `round(i * n_planes / n_sections)`, halves to even."""
    return [round(i * n_planes / n_sections) for i in range(n_sections + 1)]


def section_labels(
    da: xr.DataArray,
    n: int | None = None,
    thickness: float | None = None,
    starts: Sequence[int] | None = None,
) -> NDArray[np.int64]:
    """Labels 0, 1, 2, … along z, by number, by thickness in units of z, or by first planes."""
    given = {k: v for k, v in {"n": n, "thickness": thickness, "starts": starts}.items() if v is not None}
    call = "assign_sections"
    if len(given) != 1:
        raise_problems(call, [f"exactly one of n, thickness and starts is needed, got {listed(list(given)) or 'none'}"])
    n_planes = da.sizes["z"]
    if n is not None:
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or not 1 <= n <= n_planes:
            raise_problems(call, [f"n={n!r}: needs a whole number from 1 to the number of planes, {n_planes}"])
        return np.repeat(np.arange(n), np.diff(equal_division(n_planes, int(n))))
    if starts is not None:
        first = np.atleast_1d(np.asarray(starts))
        right = first.ndim == 1 and first.size > 0 and first.dtype.kind in "iu"
        if not right or first[0] != 0 or (np.diff(first.astype(np.int64)) < 1).any() or first[-1] >= n_planes:
            raise_problems(
                call,
                [f"starts={starts!r}: needs increasing plane numbers from 0 to {n_planes - 1}, the first of them 0"],
            )
        return np.searchsorted(first, np.arange(n_planes), side="right").astype(np.int64) - 1
    return _by_thickness(da, thickness)


def _by_thickness(da: xr.DataArray, thickness: float | None) -> NDArray[np.int64]:
    """Labels that count slabs of `thickness` from the first plane; an empty slab leaves a gap."""
    problems = []
    if isinstance(thickness, bool) or not isinstance(thickness, int | float | np.number) or not 0 < thickness < np.inf:
        problems.append(f"thickness={thickness!r}: needs a number above 0, in units of the z coordinate")
    z = da.coords["z"].to_numpy() if "z" in da.coords else None
    if z is None or z.dtype.kind not in "iuf":
        problems.append("thickness= needs a numeric z coordinate: add one, or use n= or starts=")
    elif not np.isfinite(z).all() or not ((np.diff(z) > 0).all() or (np.diff(z) < 0).all()):
        problems.append("thickness= needs z to rise or to fall from plane to plane: sort the volume by z")
    raise_problems("assign_sections", problems)
    assert thickness is not None
    assert z is not None
    distance = np.abs(z.astype(float) - float(z[0]))
    # A plane on a cut belongs to the new section, also where its z was rounded, as that of float32 is.
    slack = 0.01 * np.median(np.diff(distance)) if len(z) > 1 else 0.0
    labels: NDArray[np.int64] = np.floor((distance + slack) / float(thickness)).astype(np.int64)
    return labels
