"""The two reads behind the drift model: from a volume to the sums that the model knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xoctnorm.depths import depth_problems, partial_first_section
from xoctnorm.errors import raise_problems
from xoctnorm.kernels.backend import namespace, to_host
from xoctnorm.kernels.class_sums import ClassImages, ClassSummer, ClassSums, TileSums, tile_sums
from xoctnorm.kernels.classes import TissueClasses, classify
from xoctnorm.kernels.coarse import coarse_factor, coarse_mask, coarse_plane
from xoctnorm.kernels.drift_unknowns import Planes as Layout
from xoctnorm.kernels.order_statistics import Ends, ends_without_zeros
from xoctnorm.kernels.seams import LineSums, line_sums
from xoctnorm.kernels.section_views import SectionViews, view_cap
from xoctnorm.memory import give_back
from xoctnorm.shelf import Shelf
from xoctnorm.transfers import Plane
from xoctnorm.volume import PlaneMasks, Volume


@dataclass(frozen=True)
class Observed:
    """What two reads tell, and of which planes.

    Attributes
    ----------
    sums, layout
        Of the planes that are used, with sections that are used numbered anew.
    classes
        Of the sections that are used.
    used
        Whether a plane of the volume is used.
    kept
        Sections of the volume that are used.
    depth, section_index, position
        Of all planes; the position is through the tissue, in planes.
    section_position
        Of all sections, in sections.
    blend_weight
        Share of its own section in every plane.
    partial
        Planes that the first section lacks.
    masked_mean
        Mean linear intensity over the voxels without signal that the user marked; NaN without a mask.
    tiles
        Sums of the planes over tiles.
    blend_sums
        Of all planes of the sections that are used, blended ones among them; None where no plane is blended.
    lines
        Sums at the ends of sections over rows and columns of pixels, where seams are looked for.
    """

    sums: ClassSums
    layout: Layout
    classes: TissueClasses
    used: NDArray[np.bool_]
    kept: NDArray[np.int64]
    depth: NDArray[np.int64]
    section_index: NDArray[np.int64]
    position: NDArray[np.float64]
    section_position: NDArray[np.int64]
    blend_weight: NDArray[np.float64]
    partial: int
    masked_mean: float
    notes: tuple[str, ...]
    tiles: TileSums
    blend_sums: ClassSums | None = None
    lines: LineSums | None = None


def observe(
    volume: Volume, exclude: Sequence[Any], blend: int, first_depth: int | None, *, seams: bool = False
) -> Observed:
    """Read a volume twice; sections that are excluded, and blended planes, take no part."""
    sections = volume.sections
    index, number = sections.index, np.arange(len(sections.index)) - sections.first_plane[sections.index]
    depth, partial, notes = _depths(volume, first_depth)
    weight = np.where((index > 0) & (number < blend), (number + 1) / (blend + 1), 1.0)
    longest = int(sections.n_planes[1:].min(initial=np.iinfo(np.int64).max))
    if blend >= longest:
        raise_problems(
            "blend", [f"blend={blend}: needs less than the {longest} planes of the shortest section after a cut"]
        )
    excluded = np.array([str(label) in {str(out) for out in exclude} for label in sections.labels])
    used = ~excluded[index] & (weight == 1)
    kept = np.unique(index[used])
    views, masked_mean = _read_views(volume, used, np.searchsorted(kept, index)[used])
    empty = np.array([not np.isfinite(of_section).any() for of_section in views])
    if empty.all():
        raise_problems("drift", ["no section has data in its planes: nothing can be fitted"])
    if empty.any():  # such a section is as good as lost
        used = used & ~np.isin(index, kept[empty])
        views, kept = Shelf(views[s] for s in np.flatnonzero(~empty).tolist()), kept[~empty]
    row = np.searchsorted(kept, index)[used]
    layout = Layout(row, depth[used], volume.positions[used])
    # The next section continues this one where none is missing between them.
    follows = np.append(np.abs(np.diff(sections.position[kept])) == 1, False)
    assert volume.agarose is not None
    factor = coarse_factor(*volume.data.shape[-2:])
    masks = volume.agarose.of_sections()
    agarose = np.stack([coarse_mask(masks[s], factor) for s in kept])
    classes = classify(views, agarose, follows)
    lines = line_sums(views, classes.through) if seams else None
    del views
    give_back()  # before planes are loaded beside what was freed
    row_of_plane, seen = np.searchsorted(kept, index), np.isin(index, kept)
    images = [ClassImages(classes, np.where(used, row_of_plane, -1))]
    if (seen & ~used).any():  # blended planes tell nothing of the sections, which tell what those should be like
        images.append(ClassImages(classes, np.where(seen, row_of_plane, -1)))
    summers = [ClassSummer(one) for one in images]
    wanted, ends = volume.ends, []
    percentile = None if wanted is None else wanted.percentile

    def looked_at(_: int, plane: Plane, *images: NDArray[np.uint8]) -> tuple[list[NDArray[np.float64]], Ends | None]:
        coarse = coarse_plane(plane, factor)
        sums = [tile_sums(coarse, one) for one in images]
        return sums, None if percentile is None else ends_without_zeros(plane, percentile)

    for z, (sums, of_plane) in enumerate(volume.each_plane(looked_at, *images)):
        ends.append(of_plane)
        for summer, of_images in zip(summers, sums, strict=True):
            summer.add(z, of_images)
    if wanted is not None:
        wanted.keep([one for one in ends if one is not None], volume)
    return Observed(
        summers[0].sums(),
        layout,
        classes,
        used,
        kept,
        depth,
        index,
        volume.positions,
        _rising(sections.position),
        weight,
        partial,
        masked_mean,
        notes,
        summers[0].tiles(),
        None if len(summers) == 1 else summers[1].sums(),
        lines,
    )


def _rising(position: NDArray[np.int64]) -> NDArray[np.int64]:
    return position if position[-1] >= position[0] else -position


def _depths(volume: Volume, first_depth: int | None) -> tuple[NDArray[np.int64], int, tuple[str, ...]]:
    """Depth of every plane, planes that the first section lacks, and what to say of it."""
    depth, first = volume.depths.copy(), volume.sections.index == 0
    if first_depth is not None:
        depth[first] += first_depth - depth[first].min()
    raise_problems("depth", depth_problems(depth, volume.sections, volume.depth))
    if first_depth is not None:
        return depth, 0, ()
    partial = 0 if volume.depth is not None else partial_first_section(depth, volume.sections)
    depth[first] += partial
    if not partial:
        return depth, 0, ()
    return (
        depth,
        partial,
        (
            f"section {volume.sections.labels[0]} has {partial} planes less than others: it is taken for the lower "
            f"part of a section, its first plane {partial} planes below a cut; say first_depth= where that is wrong",
        ),
    )


def _read_views(
    volume: Volume, used: NDArray[np.bool_], row: NDArray[np.int64]
) -> tuple[Shelf[NDArray[np.float32]], float]:
    """Means of the views of sections, and the mean over voxels without signal; one read."""
    factor = coarse_factor(*volume.data.shape[-2:])
    shape = -(-volume.data.shape[-2] // factor), -(-volume.data.shape[-1] // factor)
    section, number = np.full((2, used.size), -1)
    section[used], number[used] = row, np.arange(len(row)) - np.searchsorted(row, row)

    def looked_at(_: int, plane: Plane, *noise: NDArray[np.bool_]) -> tuple[Plane, float, float, int]:
        coarse = coarse_plane(plane, factor)
        return coarse, view_cap(coarse), *_sum_of_noise(plane, *noise)

    marked = [] if volume.noise is None else [PlaneMasks(volume.noise)]
    n_planes = np.bincount(row)
    views: Shelf[NDArray[np.float32]] = Shelf()
    total, count = 0.0, 0
    taken = _ViewTaker(SectionViews(shape, n_planes), section, number)
    for of_plane, n_voxels, complete in volume.folded(looked_at, taken, *marked):
        total, count = total + of_plane, count + n_voxels
        for of_section in complete:
            views.append(of_section)
    if volume.noise is not None and not count:
        raise_problems("noise_floor", ["noise_floor is a mask without voxels that have data: mark some without signal"])
    return views, total / count if count else np.nan


@dataclass(frozen=True)
class _ViewTaker:
    """Adds planes to the views of their sections; leaves sums over noise, and views that are complete.

    Attributes
    ----------
    views
        Of the sections that take part.
    section, number
        Section of every plane, and its number there; -1 of planes that take no part.
    """

    views: SectionViews
    section: NDArray[np.int64]
    number: NDArray[np.int64]

    def add(self, z: int, found: tuple[Plane, float, float, int]) -> tuple[float, int, list[NDArray[np.float32]]]:
        """Take what was found in a plane."""
        coarse, cap, of_noise, n_voxels = found
        if self.section[z] >= 0:
            self.views.add(coarse, int(self.section[z]), int(self.number[z]), cap)
        return of_noise, n_voxels, self.views.taken()


def _sum_of_noise(plane: Plane, marked: NDArray[np.bool_] | None = None) -> tuple[float, int]:
    """Sum over the voxels of a plane that the user marked as without signal, and their number."""
    if marked is None:
        return 0.0, 0
    values = plane[marked]
    values = values[namespace(values).isfinite(values)]
    return float(to_host(values.sum(dtype=np.float64))), values.size
