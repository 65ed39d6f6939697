"""What pictures read of a volume: a block of planes at a time, some planes, or three cuts; never the whole at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm import progress
from xoctnorm.agarose import AgaroseMask, Mask
from xoctnorm.blocks import memory_of, values_on_host
from xoctnorm.kernels.backend import namespace, numbers, to_host
from xoctnorm.kernels.masks import MeanProjection
from xoctnorm.plot.series import Numbers, Series
from xoctnorm.volume import PlaneMasks, Planes

Image = NDArray[np.floating]
Bool = NDArray[np.bool_]

_PLANES_PER_SECTION = 4  # of which histograms are made
_MOST_SAMPLES = 2**13  # of a plane
_MOST_SECTIONS = 64


class NoAgarose:
    """No agarose in any plane."""

    def of_plane(self, number: int) -> Bool:
        """False for all pixels, whatever their number."""
        return np.zeros((1, 1), bool)


def masks_of(series: Series, mask: Mask | None = None) -> AgaroseMask | PlaneMasks | NoAgarose:
    """The agarose of every plane; none where no mask is known."""
    found = series.agarose(mask)
    return NoAgarose() if found is None else found


def mean_projection(series: Series) -> Image:
    """Mean along z; one read."""
    planes = series.planes
    mean = MeanProjection(planes.data.dtype)
    with progress.job("mean projection", len(series)):
        for plane in planes.raw_planes():
            mean.add(plane[None])
    return mean.mean()


def share_of_planes(series: Series, mask: Mask | None = None) -> Numbers:
    """In which share of the planes a pixel is agarose."""
    found = series.agarose_mask(mask)
    assert found is not None
    shape = (found.sizes["y"], found.sizes["x"])
    masks = masks_of(series, mask)
    if isinstance(masks, AgaroseMask) and masks.variable.ndim == 2:
        return to_host(masks.of_plane(0)).astype(float)
    share: Any = np.zeros(shape)
    if isinstance(masks, AgaroseMask):
        for rows, image in zip(series.sections.n_planes, masks.of_sections(), strict=True):
            share += rows * image
    else:
        share = namespace(memory_of(found.variable)).zeros(shape)
        for number in range(len(series)):
            share += masks.of_plane(number)
    return to_host(share / len(series))


def tissue_means(series: Series, mask: Mask | None = None) -> Numbers:
    """Mean of every plane over what is neither agarose nor 0 nor NaN; NaN where there is none. One read."""
    with progress.job("means of planes", len(series)):
        return np.array(list(series.planes.each_plane(tissue_mean, masks_of(series, mask))))


def tissue_mean(_: int, plane: NDArray[np.float32], agarose: Bool) -> float:
    """Mean of a plane over tissue."""
    tissue = ~agarose & (plane != 0) & (plane == plane)
    xp = namespace(plane)
    total = xp.sum(xp.where(tissue, plane, np.float32(0)), dtype=np.float64)
    total, n = numbers(total, xp.sum(tissue, dtype=np.float64)).tolist()
    return total / n if n else np.nan


def tissue_samples(series: Series, mask: Mask | None = None) -> dict[int, NDArray[np.float32]]:
    """Evenly spread values of the tissue of sections, by their row; of more than 64 sections those of some.

    Four planes of each section are read, at the same parts of its depth.
    """
    chosen = _chosen(series)
    numbers = sampled_planes(series)
    planes = Planes(series.planes.data.isel(chosen))
    by_row: dict[int, list[NDArray[np.float32]]] = {}
    with progress.job("samples", len(numbers)):
        values = planes.each_plane(tissue_values, _masks_of_some(series, mask, chosen, numbers))
        for row, found in zip(series.sections.index[numbers].tolist(), values, strict=True):
            by_row.setdefault(row, []).append(found)
    return {row: np.concatenate(parts) for row, parts in by_row.items()}


def sampled_planes(series: Series) -> NDArray[np.int64]:
    """Numbers of the planes from which `tissue_samples` takes values."""
    numbers = np.arange(len(series)).reshape([series.volume.sizes[dim] for dim in series.dims])
    return numbers[np.ix_(*_chosen(series).values())].ravel()


def _chosen(series: Series) -> dict[str, NDArray[np.int64]]:
    """Places of the sampled planes along their dims."""
    dims = series.dims
    n = len(series.sections) if len(dims) == 1 else series.volume.sizes[dims[0]]
    rows = np.arange(0, n, -(-n // _MOST_SECTIONS))
    if len(dims) == 2:  # a dimension of sections: the same planes of each
        return {dims[0]: rows, "z": _spread(series.volume.sizes["z"])}
    inside = [np.flatnonzero(series.sections.index == row) for row in rows]
    return {"z": np.concatenate([planes[_spread(len(planes))] for planes in inside])}


def _spread(n: int) -> NDArray[np.int64]:
    """Some of `n` planes, evenly spread from the first to the last."""
    return np.unique(np.linspace(0, n - 1, _PLANES_PER_SECTION).astype(np.int64))


def _masks_of_some(
    series: Series, mask: Mask | None, chosen: dict[str, NDArray[np.int64]], numbers: NDArray[np.int64]
) -> AgaroseMask | PlaneMasks | NoAgarose:
    """The agarose of planes that are chosen along their dims, and have these numbers in the volume."""
    found = series.agarose_mask(mask)
    if found is None:
        return NoAgarose()
    if set(series.dims) & set(found.dims):
        return PlaneMasks(found.variable.transpose(*series.dims, "y", "x").isel(chosen))
    return AgaroseMask(found.variable.transpose(..., "y", "x"), series.sections.index[numbers])


def tissue_values(_: int, plane: NDArray[np.float32], agarose: Bool) -> NDArray[np.float32]:
    """Evenly spread values of the tissue of a plane."""
    values = plane[~agarose & (plane != 0) & (plane == plane)]
    spread: NDArray[np.float32] = to_host(values[:: max(1, -(-values.size // _MOST_SAMPLES))].copy())
    return spread


@dataclass(frozen=True)
class Cuts:
    """Three orthogonal cuts of a volume.

    Attributes
    ----------
    at
        Number of the plane, row and column.
    plane
        `(y, x)`
    along_x
        `(plane, x)`, at the row.
    along_y
        `(plane, y)`, at the column.
    """

    at: tuple[int, int, int]
    plane: Image
    along_x: Image
    along_y: Image

    def limits(self, low: float = 1, high: float = 99.5) -> tuple[float, float]:
        """Percentiles of what is in the cuts and not 0."""
        values = np.concatenate([one.ravel() for one in (self.plane, self.along_x, self.along_y)])
        values = values[np.isfinite(values) & (values != 0)]
        if not values.size:
            return 0.0, 1.0
        black, white = (float(one) for one in np.percentile(values, [low, high]))
        return (black, white) if white > black else (black, black + 1)


def middle_of_tissue(series: Series) -> tuple[int, int, int]:
    """A plane, a row and a column through the middle: of the tissue, where a mask tells it."""
    number = len(series) // 2
    mask = series.agarose_mask()
    n_y, n_x = series.volume.sizes["y"], series.volume.sizes["x"]
    if mask is None:
        return number, n_y // 2, n_x // 2
    if "section_label" in mask.dims:
        mask = mask.isel(section_label=int(series.sections.index[number]))
    tissue = ~values_on_host(series.of_plane(mask, number).variable.transpose("y", "x"))
    if not tissue.any():
        return number, n_y // 2, n_x // 2
    rows, columns = np.nonzero(tissue)
    return number, int(np.median(rows)), int(np.median(columns))


def three_cuts(series: Series, at: tuple[int, int, int]) -> Cuts:
    """Read a plane, a row of all planes and a column of all planes; nothing else is held."""
    number, row, column = at
    one = xr.DataArray(series.planes.data)
    wanted = xr.Dataset(
        {
            "plane": series.of_plane(one, number).variable,
            "along_x": one.isel(y=row).variable,
            "along_y": one.isel(x=column).variable,
        }
    ).load()  # together: chunks that two cuts share are read once
    images = {name: _floating(values_on_host(values.variable)) for name, values in wanted.data_vars.items()}
    n = len(series)
    return Cuts(at, images["plane"], images["along_x"].reshape(n, -1), images["along_y"].reshape(n, -1))


def _floating(values: NDArray[np.generic]) -> Image:
    return values.astype(np.float32 if values.dtype.itemsize <= 4 else np.float64)


def shrunk(image: Image, most: int = 1200) -> Image:
    """An image of at most so many pixels across: means of blocks, of what is not NaN."""
    factor = max(1, -(-max(image.shape) // most))
    if factor == 1:
        return image
    from xoctnorm.kernels.coarse import block_sums

    xp = namespace(image)
    known = xp.isfinite(image)
    n = block_sums(known, factor)
    mean: Image = xp.where(n > 0, block_sums(xp.where(known, image, 0), factor) / xp.maximum(n, 1), np.nan)
    return mean
