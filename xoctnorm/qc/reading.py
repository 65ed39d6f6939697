"""The reads behind the figures of merit: from one volume, before and after, to arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm import progress
from xoctnorm.agarose import SECTIONS, AgaroseMask, images_of, in_all
from xoctnorm.blocks import memory_of, values_on_host
from xoctnorm.corrections.intensity import Linearize
from xoctnorm.depths import partial_first_section
from xoctnorm.errors import listed, raise_problems
from xoctnorm.kernels.backend import kernels_for, namespace, to_host
from xoctnorm.kernels.class_sums import ClassImages, ClassSummer, ClassSums, TileSums, tile_sums
from xoctnorm.kernels.classes import AGAROSE, TissueClasses, classify
from xoctnorm.kernels.coarse import coarse_factor, coarse_mask
from xoctnorm.kernels.consensus import series_agarose
from xoctnorm.kernels.fine_outlines import enlarged
from xoctnorm.kernels.levels import Scale, imaged_field
from xoctnorm.kernels.order_statistics import median, percentile_without_zeros
from xoctnorm.kernels.outlines import REACH, outlines
from xoctnorm.kernels.section_views import SectionViews, view_cap
from xoctnorm.sections import Sections
from xoctnorm.shelf import Shelf
from xoctnorm.statistics import Survey, by_section
from xoctnorm.transfers import Plane
from xoctnorm.volume import Alike, Volume

Bool = NDArray[np.bool_]
Series = NDArray[np.float64]

BRIGHTEST = 99.9  # percentile of a plane
_BLOCK = 8  # pixels across in which speckle is looked at
_SMALLER_BLOCK = 4  # where planes are small
_SMALL_PLANE = 2**14
_TINY = np.float32(1e-30)  # in place of 0, which would be taken for no data


@dataclass(frozen=True)
class Ground:
    """What both stages are measured on.

    Attributes
    ----------
    sections
        Section of every plane.
    depth
        Of every plane below the cut, in planes.
    used
        Whether a plane takes part in what is told of sections: blended ones do not.
    field, agarose
        Of every section, `(section, y, x)`, coarse.
    expected_agarose
        Agarose as the border method finds it in the same volume; empty where it finds none.
    mask_given
        Whether the agarose is that of a mask which came with the volume.
    classes
        Of the pixels of every section.
    factor
        Pixels along y and x that make a coarse one.
    """

    sections: Sections
    depth: NDArray[np.int64]
    used: Bool
    field: Bool
    agarose: Bool
    expected_agarose: Bool
    mask_given: bool
    classes: TissueClasses
    factor: int

    @property
    def follows(self) -> Bool:
        """For every section, whether the next one continues it."""
        return follows_of(self.sections)


@dataclass(frozen=True)
class Seen:
    """What one read of a volume tells.

    Attributes
    ----------
    counts
        Of every plane: voxels of the field, those other than 0, those of tissue, those of tissue not above 0, those
        that equal the largest.
    brightest
        Percentile 99.9 of every plane.
    moments
        Number, sum and sum of squares, `(plane, class, 3)`.
    histograms
        `(class, bin)`, over all planes.
    contrast
        Squared speckle contrast, `(plane, class)`; NaN where no block is of the class.
    sums, tiles
        Of the planes that are used.
    mean
        Mean projection, coarse.
    floor
        Noise floor of every plane, which is still in the values.
    """

    counts: NDArray[np.int64]
    brightest: Series
    moments: Series
    histograms: NDArray[np.int64]
    contrast: Series
    sums: ClassSums
    tiles: TileSums
    mean: NDArray[np.float32]
    floor: Series


def follows_of(sections: Sections) -> Bool:
    """For every section, whether the next one continues it."""
    return np.append(np.abs(np.diff(sections.position)) == 1, False)


def survey_ground(
    volume: Volume, intensity: str, normalized: bool, blend: int, first_depth: int | None
) -> tuple[Ground, Volume, list[str]]:
    """Find classes; one read, or two where intensity is not linear. Returns the volume on linear intensity too."""
    factor = coarse_factor(*volume.data.shape[-2:])
    views, means = _views_and_means(volume, factor)
    given = None if volume.agarose is None else coarse_agarose(volume.agarose, factor)
    field = np.empty(means.shape, bool)
    for s, mean in enumerate(means):
        field[s] = imaged_field(mean) | (False if given is None else given[s] & np.isfinite(mean))
    expected: Bool | None = None
    notes: list[str] = []
    if not normalized:
        if given is None:
            expected = _by_border(means, field, factor)
            volume = replace(volume, agarose=_Enlarged(expected, volume.sections.index, factor, volume.data.shape[-2:]))
        linear, notes = linearized(volume, intensity)
        if len(linear.transfers) > len(volume.transfers):
            volume, expected = linear, None
            del views
            views, means = _views_and_means(volume, factor)
    if expected is None:
        expected = _by_border(means, field, factor)
    del means
    agarose = expected if given is None else given & field
    classes = classify(views, agarose, follows_of(volume.sections))
    depth = volume.depths.copy()
    first = volume.sections.index == 0
    if first_depth is not None:
        depth[first] += first_depth - depth[first].min()
    elif volume.depth is None:
        depth[first] += partial_first_section(depth, volume.sections)
    number = np.arange(len(depth)) - volume.sections.first_plane[volume.sections.index]
    used = (volume.sections.index == 0) | (number >= blend)
    ground = Ground(volume.sections, depth, used, field, agarose, expected, given is not None, classes, factor)
    return ground, volume, notes


def linearized(volume: Volume, intensity: str) -> tuple[Volume, list[str]]:
    """The volume on linear intensity, and what is to be said of that; at most 24 planes are read."""
    correction = Linearize(intensity)
    # Of the survey only problems are asked, which were looked for when the volume was corrected.
    blank = Survey(np.empty((0, 0)), 0.0, 1.0, (), 0)
    fitted, notes = correction.fit(replace(volume, survey=blank))
    return correction.apply(volume, fitted), notes


class _Enlarged(AgaroseMask):
    """Masks of sections on a coarser grid, enlarged to that of planes when they are asked for."""

    def __init__(self, coarse: Bool, row: NDArray[np.int64], factor: int, shape: tuple[int, ...]) -> None:
        super().__init__(xr.Variable(("section_label", "y", "x"), coarse), row)
        self._enlarge = partial(enlarged, factor=factor, shape=(shape[0], shape[1]))

    def of_plane(self, number: int) -> Bool:
        """Mask `(y, x)` of a plane."""
        return self._enlarge(super().of_plane(number))


def coarse_agarose(agarose: AgaroseMask, factor: int) -> Bool:
    """What is agarose in all planes of a section, of every section, coarse; masks are read a block at a time."""
    variable, n = agarose.variable, int(agarose.row.max()) + 1
    if variable.ndim == 2:
        one = coarse_mask(values_on_host(variable), factor)
        return np.broadcast_to(one, (n, *one.shape))
    rows = np.arange(n) if variable.dims[0] == SECTIONS else agarose.row
    each = by_section(images_of(variable), rows)
    return np.stack([to_host(coarse_mask(in_all(images), factor)) for images in each])


def _views_and_means(volume: Volume, factor: int) -> tuple[Shelf[NDArray[np.float32]], NDArray[np.float32]]:
    """Views of sections, from which classes are told, and mean projections of sections, zeros among them; one read."""
    n_planes, n_y, n_x = volume.sections.n_planes, *(-(-n // factor) for n in volume.data.shape[-2:])
    views: Shelf[NDArray[np.float32]] = Shelf()
    means = np.empty((len(n_planes), n_y, n_x), np.float32)
    progress.phase("classes")
    planes = volume.each_plane(partial(_coarse, factor=factor))
    xp = namespace(memory_of(volume.data))
    for row, of_section in enumerate(by_section(planes, volume.sections.index)):
        own = SectionViews((n_y, n_x), n_planes[row : row + 1])
        total, count = xp.zeros((n_y, n_x)), xp.zeros((n_y, n_x), dtype=np.uint16)
        for number, (coarse, cap) in enumerate(of_section):
            own.add(coarse, 0, number, cap)
            has = xp.isfinite(coarse)
            total += xp.where(has, coarse, 0)
            count += has
        views.append(own.means()[0])
        with np.errstate(invalid="ignore"):
            means[row] = to_host(total / count)
    return views, means


def _coarse(_: int, plane: Plane, factor: int) -> tuple[Plane, float]:
    xp = namespace(plane)
    if factor == 1:
        coarse = xp.where(xp.isfinite(plane), plane, np.float32(np.nan))
    else:
        coarse = xp.empty(tuple(-(-n // factor) for n in plane.shape), dtype=np.float32)
        quality = kernels_for(plane, "compiled_quality")
        quality.coarse_means(kernels_for(plane).frozen(plane), plane.shape[1], factor, coarse)
    return coarse, view_cap(coarse)


def _by_border(means: NDArray[np.float32], field: Bool, factor: int) -> Bool:
    """Agarose of every section by the border method, on mean projections, which are lost."""
    positive = means[field & (means > 0)]
    if not positive.size:
        return np.zeros_like(field)
    # In a result what was below the floor is 0 in every plane; it is in the field all the same.
    least = np.float32(1e-3 * np.median(positive, overwrite_input=True))
    del positive
    for mean, inside in zip(means, field, strict=True):
        mean[inside & (mean == 0)] = least
        mean[~inside] = np.nan
    seeds: list[Bool | None] = [None] * len(means)
    scale = Scale.of(means, seeds)
    masks = series_agarose(outlines(means, scale, 1.0 / factor, seeds, REACH / factor), seeds).masks
    masks &= field
    return masks


def look(volume: Volume, ground: Ground, floor: Series) -> Seen:
    """Measure one stage on common ground; one read."""
    index = ground.sections.index
    labels = _labels(ground)
    row = np.full(index.size, -1)
    row[ground.used] = np.unique(index[ground.used], return_inverse=True)[1]
    like = memory_of(volume.data)
    xp = namespace(like)
    images = ClassImages(ground.classes, row)
    images_there = Alike(images, like)
    summer = ClassSummer(images)
    size = _BLOCK if np.prod(volume.data.shape[-2:]) > _SMALL_PLANE else _SMALLER_BLOCK
    function = partial(_look_at, factor=ground.factor, size=size, floor=floor)
    counts, brightest, moments, contrast, infinite = [], [], [], [], []
    histograms: Any = None
    total, present = xp.zeros(labels.shape[1:]), xp.zeros(labels.shape[1:], dtype=np.int64)
    progress.phase("figures")
    found = volume.each_plane(function, _OfSections(labels, index))
    for number, one in enumerate(found):
        counts.append(one[0])
        brightest.append(one[1])
        moments.append(one[2])
        histograms = one[3] if histograms is None else histograms + one[3]
        contrast.append(one[4])
        coarse = one[5]
        has = xp.isfinite(coarse)
        total += xp.where(has, coarse, 0)
        present += has
        if one[6]:
            infinite.append(number)
        if ground.used[number]:
            sets: Any = images_there.of_plane(number)
            summer.add(number, tile_sums(coarse, sets))
    if infinite:
        raise_problems(
            "qc",
            [
                f"the volume has infinite voxels on plane {listed(infinite)}: replace them by NaN, which means "
                "'no data' (da.where(abs(da) < 3e38))"
            ],
        )
    assert histograms is not None
    with np.errstate(invalid="ignore"):
        mean = to_host((total / present).astype(np.float32))
    return Seen(
        np.array(counts),
        np.array(brightest, float),
        np.array(moments),
        to_host(histograms),
        np.array(contrast),
        summer.sums(),
        summer.tiles(),
        mean,
        floor,
    )


@dataclass(frozen=True)
class _OfSections:
    """An image for every plane: that of its section."""

    images: NDArray[np.uint8]
    row: NDArray[np.int64]

    def of_plane(self, number: int) -> NDArray[np.uint8]:
        image: NDArray[np.uint8] = self.images[self.row[number]]
        return image


def _labels(ground: Ground) -> NDArray[np.uint8]:
    """What every coarse pixel of every section is, see `xoctnorm.kernels.compiled_quality`."""
    from xoctnorm.kernels.compiled_quality import FIRST_CLASS, MASKED, OUTSIDE, UNSURE

    labels = np.where(ground.field, np.uint8(UNSURE), np.uint8(OUTSIDE))
    labels[ground.agarose] = MASKED
    through = ground.classes.through
    kept = (through >= AGAROSE) & ground.field
    labels[kept] = (through[kept] + FIRST_CLASS).astype(np.uint8)
    return labels


def _look_at(
    number: int, plane: Plane, labels: NDArray[np.uint8], factor: int, size: int, floor: Series
) -> tuple[NDArray[np.int64], float, Series, Any, Series, Plane, bool]:
    """All that is counted and summed in one plane; its histograms and the coarse plane stay where it is."""
    from xoctnorm.kernels.compiled_quality import BINS, N_CLASSES

    xp, quality = namespace(plane), kernels_for(plane, "compiled_quality")
    values, n_x = kernels_for(plane).frozen(plane), plane.shape[1]
    counts, histograms = xp.zeros(5, dtype=np.int64), xp.zeros((N_CLASSES, BINS), dtype=np.int64)
    moments = xp.zeros((N_CLASSES, 3))
    quality.look_at_plane(values, n_x, labels, factor, values.view(np.uint32), counts, moments, histograms)
    blocks = xp.empty((max(1, plane.shape[0] // size * (n_x // size)), 2))
    blocks = blocks[: quality.contrasts_of_blocks(values, n_x, labels, factor, size, float(floor[number]), blocks)]
    contrast = np.array([median(blocks[blocks[:, 0] == kind, 1]) for kind in range(N_CLASSES)])
    counts, moments = to_host(counts), to_host(moments)
    coarse, _ = _coarse(number, plane, factor)
    if counts[1]:  # zeros of a plane with data are values
        coarse[coarse == 0] = _TINY
    coarse[labels == 0] = np.nan
    infinite = bool(to_host(xp.isinf(plane).any()))
    return counts, float(percentile_without_zeros(plane, BRIGHTEST)), moments, histograms, contrast, coarse, infinite
