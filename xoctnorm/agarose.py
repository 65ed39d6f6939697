"""Agarose masks: one for all planes, one per section or one per plane, as users give them and as results carry them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core.indexing import (
    CopyOnWriteArray,
    ExplicitIndexer,
    IndexingSupport,
    LazilyIndexedArray,
    explicit_indexing_adapter,
)

from xoctnorm.blocks import loaded, memory_of, places, values_on_host
from xoctnorm.checks import mask_problems
from xoctnorm.errors import listed, raise_problems
from xoctnorm.kernels.backend import as_array, on_host, to_host
from xoctnorm.sections import Sections, plane_dims

SECTIONS = "section_label"

Mask = xr.DataArray | NDArray[np.bool_]


@dataclass(frozen=True)
class AgaroseMask:
    """The mask of every plane of one volume.

    Attributes
    ----------
    variable
        bool, `(y, x)`, or with one leading dim `section_label`, or with those that number planes.
    row
        Section of every plane, in plane order.
    """

    variable: xr.Variable
    row: NDArray[np.int64]

    def of_plane(self, number: int) -> NDArray[np.bool_]:
        """Mask `(y, x)` of a plane, where the mask is."""
        if self.variable.ndim == 2:  # every plane asks: looking up a place takes ten times as long
            only: NDArray[np.bool_] = as_array(self.variable.data)
            return only
        place: tuple[Any, ...] = (int(self.row[number]),)
        if self.variable.dims[0] != SECTIONS:
            place = np.unravel_index(number, self.variable.shape[:-2])
        image: NDArray[np.bool_] = as_array(self.variable[place].data)
        return image

    def of_sections(self) -> list[NDArray[np.bool_]]:
        """Mask `(y, x)` of every section, on the host: what is agarose in all its planes."""
        first = np.flatnonzero(np.diff(self.row, prepend=-1)).tolist()
        if self.variable.dims[0] in ("y", SECTIONS):
            return [to_host(self.of_plane(number)) for number in first]
        stops = [*first[1:], len(self.row)]
        return [
            to_host(in_all(self.of_plane(number) for number in range(start, stop)))
            for start, stop in zip(first, stops, strict=True)
        ]


def labelled_agarose(
    name: str, mask: xr.DataArray | NDArray[np.bool_], da: xr.DataArray, section: str, sections: Sections
) -> xr.DataArray:
    """Give a mask dims that this package knows, and check that it fits a volume.

    The leading dims become those of planes, or `section_label` in the order of the sections; a mask along
    planes that is the same in all planes of each section becomes one per section.
    """
    checked = checked_agarose(name, mask, da, section, sections)
    planes = plane_dims(da, section)
    return _one_per_section(checked, planes, sections) if {*planes} <= {*checked.dims} else checked


def checked_agarose(
    name: str, mask: xr.DataArray | NDArray[np.bool_], da: xr.DataArray, section: str, sections: Sections
) -> xr.DataArray:
    """Give a mask dims that this package knows, as `labelled_agarose` does; one along planes stays, and is not read."""
    planes = plane_dims(da, section)
    if not isinstance(mask, xr.DataArray):
        mask = _from_array(name, as_array(mask), da, planes, sections)
    leading = [dim for dim in (SECTIONS, section) if dim in mask.dims and not {*planes} <= {*mask.dims}]
    if len(leading) == 1 and "z" not in mask.dims:
        images = mask.isel({leading[0]: 0}, drop=True) if mask.sizes[leading[0]] else mask
        raise_problems(name, mask_problems(name, images, da, ("y", "x")))
        return _by_label(name, mask, leading[0], sections)
    along = [dim for dim in planes if dim in mask.dims]
    raise_problems(name, mask_problems(name, mask, da, (*along, "y", "x")))
    if not along:
        return mask
    if len(along) < len(planes):
        raise_problems(
            name, [f"{name} has dims {mask.dims}: the planes lie along {planes}, and all of these dims are needed"]
        )
    return mask


def _from_array(
    name: str, array: NDArray[Any], da: xr.DataArray, planes: tuple[str, ...], sections: Sections
) -> xr.DataArray:
    """Dims of a plain array, told by its shape."""
    field = (da.sizes["y"], da.sizes["x"])
    sizes = tuple(da.sizes[dim] for dim in planes)
    if array.ndim == 2:
        return xr.DataArray(array, dims=("y", "x"))
    if array.ndim == 3 and len(array) == len(sections):
        return xr.DataArray(array, dims=(SECTIONS, "y", "x"))
    if array.shape == (*sizes, *field):
        return xr.DataArray(array, dims=(*planes, "y", "x"))
    raise_problems(
        name,
        [
            f"{name} has shape {array.shape}: a plain array needs the dims ('y', 'x') {field}, one mask per section "
            f"{(len(sections), *field)}, or one per plane {(*sizes, *field)}"
        ],
    )
    raise AssertionError


def _by_label(name: str, mask: xr.DataArray, dim: str, sections: Sections) -> xr.DataArray:
    """Masks in the order of the sections, found by their labels where they have some."""
    labels = sections.label_values()
    if dim not in mask.coords:
        if mask.sizes[dim] != len(sections):
            raise_problems(
                name, [f"{name} has {mask.sizes[dim]} masks along {dim}, the volume has {len(sections)} sections"]
            )
        order = np.arange(len(sections))
    else:
        has = {str(label): row for row, label in enumerate(mask.coords[dim].to_numpy())}
        missing = [label for label in labels if str(label) not in has]
        if missing:
            raise_problems(name, [f"{name} has no mask along {dim} for section {listed(missing)}: add one"])
        order = np.array([has[str(label)] for label in labels])
    kept = mask.drop_vars([c for c, coord in mask.coords.items() if dim in coord.dims])
    return kept.isel({dim: order}).rename({dim: SECTIONS} if dim != SECTIONS else {})


def _one_per_section(mask: xr.DataArray, planes: tuple[str, ...], sections: Sections) -> xr.DataArray:
    """A mask along planes as one per section, where it is the same in all planes of each; read plane by plane."""
    further = tuple(str(dim) for dim in mask.dims if dim not in (*planes, "y", "x"))
    ordered = mask.variable.transpose(*further, *planes, "y", "x")
    sizes = ordered.shape[: len(further)]
    images = []
    for place in np.ndindex(sizes):
        row = -1
        for number, image in enumerate(images_of(ordered[place])):
            if sections.index[number] != row:
                row = sections.index[number]
                images.append(image.copy())  # not with all that was read beside it
            elif not to_host((image == images[-1]).all()):
                kept = mask.drop_vars(
                    [name for name, c in mask.coords.items() if not set(c.dims) <= {*further, "y", "x"}]
                )
                return kept.transpose(*further, *planes, "y", "x")
    values = np.reshape([to_host(image) for image in images], (*sizes, len(sections), *ordered.shape[-2:]))
    coords = {name: c for name, c in mask.coords.items() if set(c.dims) <= {*further, "y", "x"}}
    return xr.DataArray(values, dims=(*further, SECTIONS, "y", "x"), coords=coords)


def images_of(variable: xr.Variable) -> Iterator[NDArray[np.bool_]]:
    """Images one after the other, where they are, of which some are read at a time."""
    for place in places(variable):
        yield from loaded(variable[place]).astype(bool, copy=False)


def in_all(images: Iterable[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """What all of some images have."""
    each = iter(images)
    shared = next(each).copy()
    for image in each:
        shared &= image
    return shared


def along_planes(mask: xr.Variable, section_index: xr.Variable, like: xr.Variable) -> xr.Variable:
    """The mask of every plane of a volume: of the section of the plane, where there is one per section.

    Lazily, with the chunks of the volume, where that is chunked: never a volume in memory, before it is looked at. On
    the host where the volume is there.
    """
    if mask.chunks is None and on_host(memory_of(like)) and not on_host(memory_of(mask)):
        mask = mask.copy(data=values_on_host(mask))
    if mask.ndim == 2 or not {SECTIONS, *section_index.dims} & {*mask.dims}:
        return mask.copy()
    chunks = like.chunksizes
    if SECTIONS not in mask.dims:
        return mask.chunk({dim: chunks[dim] for dim in mask.dims}, name=_own_name()) if chunks else mask.copy()
    further = [dim for dim in mask.dims if dim not in (SECTIONS, "y", "x")]
    ordered = mask.transpose(*further, SECTIONS, "y", "x")
    dims = (*further, *section_index.dims, "y", "x")
    if not chunks:
        of_planes: Any = LazilyIndexedArray(_OfPlanes(section_index.to_numpy(), values_on_host(ordered)))
        return xr.Variable(dims, CopyOnWriteArray(of_planes), mask.attrs)
    import dask.array

    rows = section_index.chunk({dim: chunks[dim] for dim in section_index.dims})
    images = ordered.chunk({dim: chunks.get(dim, -1) for dim in ordered.dims}, name=_own_name())
    taken = dask.array.blockwise(
        _take,
        dims,
        rows.data,
        rows.dims,
        images.data,
        images.dims,
        dtype=bool,
        concatenate=True,
        align_arrays=False,  # they are aligned; checking that warns the user of many chunks
        meta=np.empty((0,) * len(dims), bool),
    )
    return xr.Variable(dims, taken, mask.attrs)


def _own_name() -> str:
    """Name of a chunked array; to make one itself, dask would hash all values."""
    return f"agarose-mask-{uuid.uuid4()}"


def _take(rows: NDArray[np.int64], masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.take(masks, rows, axis=-3)


class _OfPlanes(BackendArray):
    """Masks of planes, as from a file: taken from those of sections, `(…, section, y, x)`, when they are looked at."""

    def __init__(self, rows: NDArray[np.int64], masks: NDArray[np.bool_]) -> None:
        self._rows, self._masks = rows, masks
        self.shape = (*masks.shape[:-3], *rows.shape, *masks.shape[-2:])
        self.dtype = masks.dtype

    def __getitem__(self, key: ExplicitIndexer, /) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = explicit_indexing_adapter(key, self.shape, IndexingSupport.BASIC, self._part)
        return found

    def _part(self, key: tuple[int | slice, ...]) -> NDArray[np.bool_]:
        n_further = self._masks.ndim - 3
        further, rows, pixels = key[:n_further], self._rows[key[n_further:-2]], key[-2:]
        images = self._masks[(*further, slice(None), *pixels)]
        return np.take(images, rows, axis=sum(isinstance(one, slice) for one in further))
