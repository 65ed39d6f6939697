"""The reads behind the figures of merit: from one volume, before and after, to arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm import progress
from xoctnorm.agarose import AgaroseMask
from xoctnorm.corrections.intensity import Linearize
from xoctnorm.depths import partial_first_section
from xoctnorm.errors import listed, raise_problems
from xoctnorm.kernels.class_sums import ClassImages, ClassSummer, ClassSums, TileSums, tile_sums
from xoctnorm.kernels.classes import AGAROSE, TissueClasses, classify
from xoctnorm.kernels.coarse import coarse_factor, coarse_mask
from xoctnorm.kernels.consensus import series_agarose
from xoctnorm.kernels.levels import Scale, imaged_field
from xoctnorm.kernels.order_statistics import percentile_without_zeros
from xoctnorm.kernels.outlines import REACH, outlines
from xoctnorm.kernels.section_views import SectionViews, view_cap
from xoctnorm.sections import Sections
from xoctnorm.statistics import Survey
from xoctnorm.transfers import Plane
from xoctnorm.volume import Volume

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
    given = volume.agarose is not None
    field = np.isfinite(means) & (means != 0)
    agarose = np.zeros_like(field)
    if volume.agarose is not None:
        agarose = np.stack([coarse_mask(mask, factor) for mask in volume.agarose.of_sections()])
    field = np.stack([imaged_field(mean) for mean in means]) | (agarose & np.isfinite(means))
    notes: list[str] = []
    if not normalized:
        if not given:
            found = _by_border(means, field, factor)
            rows = np.repeat(np.repeat(found, factor, axis=1), factor, axis=2)
            fine = rows[:, : volume.data.shape[-2], : volume.data.shape[-1]]
            volume = replace(
                volume, agarose=AgaroseMask(xr.Variable(("section_label", "y", "x"), fine), volume.sections.index)
            )
        linear, notes = linearized(volume, intensity)
        if len(linear.transfers) > len(volume.transfers):
            volume = linear
            views, means = _views_and_means(volume, factor)
    expected = _by_border(means, field, factor)
    agarose = agarose if given else expected
    classes = classify(views.means(), agarose & field, follows_of(volume.sections))
    depth = volume.depths.copy()
    first = volume.sections.index == 0
    if first_depth is not None:
        depth[first] += first_depth - depth[first].min()
    elif volume.depth is None:
        depth[first] += partial_first_section(depth, volume.sections)
    number = np.arange(len(depth)) - volume.sections.first_plane[volume.sections.index]
    used = (volume.sections.index == 0) | (number >= blend)
    ground = Ground(volume.sections, depth, used, field, agarose & field, expected, given, classes, factor)
    return ground, volume, notes


def linearized(volume: Volume, intensity: str) -> tuple[Volume, list[str]]:
    """The volume on linear intensity, and what is to be said of that; at most 24 planes are read."""
    correction = Linearize(intensity)
    # Of the survey only problems are asked, which were looked for when the volume was corrected.
    blank = Survey(np.empty((0, 0)), 0.0, 1.0, (), 0)
    fitted, notes = correction.fit(replace(volume, survey=blank))
    return correction.apply(volume, fitted), notes


def _views_and_means(volume: Volume, factor: int) -> tuple[SectionViews, NDArray[np.float32]]:
    """Views of sections, from which classes are told, and mean projections of sections, zeros among them; one read."""
    index = volume.sections.index
    shape = tuple(-(-n // factor) for n in volume.data.shape[-2:])
    views = SectionViews((shape[0], shape[1]), volume.sections.n_planes)
    total, count = np.zeros((len(volume.sections), *shape)), np.zeros((len(volume.sections), *shape), np.uint16)
    first = volume.sections.first_plane
    progress.phase("classes")
    for number, (coarse, cap) in enumerate(volume.each_plane(partial(_coarse, factor=factor))):
        row = int(index[number])
        views.add(coarse, row, number - int(first[row]), cap)
        has = np.isfinite(coarse)
        total[row] += np.where(has, coarse, 0)
        count[row] += has
    with np.errstate(invalid="ignore"):
        return views, (total / count).astype(np.float32)


def _coarse(_: int, plane: Plane, factor: int) -> tuple[Plane, float]:
    from xoctnorm.kernels.compiled import frozen
    from xoctnorm.kernels.compiled_quality import coarse_means

    if factor == 1:
        coarse = np.where(np.isfinite(plane), plane, np.float32(np.nan))
    else:
        coarse = np.empty([-(-n // factor) for n in plane.shape], np.float32)
        coarse_means(frozen(plane), plane.shape[1], factor, coarse)
    return coarse, view_cap(coarse)


def _by_border(means: NDArray[np.float32], field: Bool, factor: int) -> Bool:
    """Agarose of every section by the border method, on mean projections."""
    positive = means[field & (means > 0)]
    if not positive.size:
        return np.zeros_like(field)
    # In a result what was below the floor is 0 in every plane; it is in the field all the same.
    least = np.float32(1e-3 * np.median(positive))
    shown = np.where(field & (means == 0), least, np.where(field, means, np.float32(np.nan))).astype(np.float32)
    seeds: list[Bool | None] = [None] * len(shown)
    scale = Scale.of(shown, seeds)
    return series_agarose(outlines(shown, scale, 1.0 / factor, seeds, REACH / factor), seeds).masks & field


def look(volume: Volume, ground: Ground, floor: Series) -> Seen:
    """Measure one stage on common ground; one read."""
    index = ground.sections.index
    labels = _labels(ground)
    row = np.full(index.size, -1)
    row[ground.used] = np.unique(index[ground.used], return_inverse=True)[1]
    images = ClassImages(ground.classes, row)
    summer = ClassSummer(images)
    size = _BLOCK if np.prod(volume.data.shape[-2:]) > _SMALL_PLANE else _SMALLER_BLOCK
    function = partial(_look_at, factor=ground.factor, size=size, floor=floor)
    counts, brightest, moments, contrast, infinite = [], [], [], [], []
    histograms: NDArray[np.int64] | None = None
    total, present = np.zeros(labels.shape[1:]), np.zeros(labels.shape[1:], np.int64)
    progress.phase("figures")
    found = volume.each_plane(function, _OfSections(labels, index))
    for number, one in enumerate(found):
        counts.append(one[0])
        brightest.append(one[1])
        moments.append(one[2])
        histograms = one[3] if histograms is None else histograms + one[3]
        contrast.append(one[4])
        coarse = one[5]
        has = np.isfinite(coarse)
        total += np.where(has, coarse, 0)
        present += has
        if one[6]:
            infinite.append(number)
        if ground.used[number]:
            summer.add(number, tile_sums(coarse, images.of_plane(number)))
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
        mean = (total / present).astype(np.float32)
    return Seen(
        np.array(counts),
        np.array(brightest, float),
        np.array(moments),
        histograms,
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
) -> tuple[NDArray[np.int64], float, Series, NDArray[np.int64], Series, Plane, bool]:
    """All that is counted and summed in one plane."""
    from xoctnorm.kernels.compiled import frozen
    from xoctnorm.kernels.compiled_quality import BINS, N_CLASSES, contrasts_of_blocks, look_at_plane

    values, n_x = frozen(plane), plane.shape[1]
    counts = np.zeros(5, np.int64)
    moments, histograms = np.zeros((N_CLASSES, 3)), np.zeros((N_CLASSES, BINS), np.int64)
    look_at_plane(values, n_x, labels, factor, values.view(np.uint32), counts, moments, histograms)
    blocks = np.empty((max(1, plane.shape[0] // size * (n_x // size)), 2))
    blocks = blocks[: contrasts_of_blocks(values, n_x, labels, factor, size, float(floor[number]), blocks)]
    contrast = np.array(
        [np.median(of) if (of := blocks[blocks[:, 0] == kind, 1]).size else np.nan for kind in range(N_CLASSES)]
    )
    coarse, _ = _coarse(number, plane, factor)
    if counts[1]:  # zeros of a plane with data are values
        coarse[coarse == 0] = _TINY
    coarse[labels == 0] = np.nan
    infinite = bool(np.isinf(plane).any())
    return counts, float(percentile_without_zeros(plane, BRIGHTEST)), moments, histograms, contrast, coarse, infinite
