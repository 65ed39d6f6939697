"""Where the agarose is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm.agarose import SECTIONS
from xoctnorm.blocks import memory_of, values_on_host
from xoctnorm.checks import coverage_problems, number_problems
from xoctnorm.corrections.base import Correction
from xoctnorm.errors import listed, raise_problems
from xoctnorm.kernels.backend import alike, as_array, namespace
from xoctnorm.kernels.coarse import coarse_factor, coarse_plane, coarse_seeds
from xoctnorm.threads import in_threads
from xoctnorm.volume import PlanesT, Volume

if TYPE_CHECKING:  # what finds outlines is imported where that is done: importing the package has to be quick
    from xoctnorm.kernels.consensus import Agarose
    from xoctnorm.kernels.levels import Scale
    from xoctnorm.kernels.outlines import Outlined
    from xoctnorm.kernels.section_images import SectionImages
    from xoctnorm.shelf import Shelf

Images = NDArray[np.bool_]

_NOTHING = (
    "no dark class of its own that touches the border of the imaged field, with tissue beside it: is there agarose "
    "in the field? Mark some with seeds=, take method='otsu', or pass a mask with agarose_mask="
)

_DEFAULT_PIXELS = 25  # parts with fewer are dropped
_CLEAR = 3.0  # standard deviations from agarose to tissue
_LEAST_CONTACT = 0.02
_LEAST_COVERAGE = 0.005


@dataclass(frozen=True)
class FoundMask(Correction):
    """Agarose that is found in the volume.

    Parameters
    ----------
    smoothing_sigma
        Standard deviation of the Gaussian in the plane, in pixels.
    per_section, per_plane
        Whether every section, or every plane, gets an outline of its own.
    min_area
        Parts of agarose, and holes in it, below this area are dropped and filled; units of y times units of x.
    """

    smoothing_sigma: float = 1.0
    per_section: bool = False
    per_plane: bool = False
    min_area: float | None = None

    @property
    def wants_section_means(self) -> bool:
        """Whether the first read has to take the mean projection of every section."""
        return self.per_section or self.per_plane

    def problems(self) -> list[str]:
        """See `Correction.problems`."""
        found = number_problems("smoothing_sigma", self.smoothing_sigma, 0)
        if self.min_area is not None:
            found += number_problems("min_area", self.min_area, 0)
        return found + [
            f"{name}={value!r}: needs True or False"
            for name, value in (("per_section", self.per_section), ("per_plane", self.per_plane))
            if not isinstance(value, bool | np.bool_)
        ]

    def reads(self, n_sections: int) -> int:
        """See `Correction.reads`."""
        return int(self.per_plane)

    def apply(self, planes: PlanesT, fitted: xr.Dataset) -> PlanesT:
        """Leave intensities alone."""
        return planes

    def _least(self, volume: Volume, default: float) -> float:
        """Pixels of the smallest part that is kept."""
        return default if self.min_area is None else self.min_area / volume.pixel_area

    def _images(self, volume: Volume) -> SectionImages | list[NDArray[np.floating]]:
        """Mean projections in which outlines are looked for: of every section, or of all planes."""
        if self.wants_section_means:
            assert volume.survey.section_images is not None
            return volume.survey.section_images
        mean = volume.survey.mean
        if volume.noise is None or volume.noise.ndim > 2:
            return [mean]
        # What the user knows to be without signal is outside the imaged field.
        return [np.where(values_on_host(volume.noise).astype(bool), np.float32(np.nan), mean)]

    def _seeds(self, volume: Volume, count: int) -> list[NDArray[np.bool_] | None]:
        """Certain agarose for every mean projection; None where there is none."""
        if volume.seeds is None:
            return [None] * count
        images = volume.seeds.of_sections()
        images = images if len(images) == count else [np.logical_and.reduce(images)]
        return [image if image.any() else None for image in images]

    def _variable(self, volume: Volume, masks: Images) -> xr.Variable:
        """Masks with their dims: `(y, x)`, one per section, or one per plane."""
        if self.per_plane:
            lead = volume.data.dims[:-2]
            return xr.Variable(volume.data.dims, masks.reshape(volume.data.shape)) if lead else xr.Variable((), masks)
        return xr.Variable((SECTIONS, "y", "x"), masks) if self.per_section else xr.Variable(("y", "x"), masks[0])


@dataclass(frozen=True)
class OtsuMask(FoundMask):
    """Agarose by Otsu's threshold on the smoothed mean projection, as in the reference.

    The parameters are those of `FoundMask`. Without others it is the mask of the reference, to the bit.
    """

    name: ClassVar[str] = "otsu_mask"

    def fit(self, volume: Volume) -> tuple[xr.Dataset, list[str]]:
        """Find the mask on the mean projections of the survey; no read, one for a mask per plane."""
        from xoctnorm.kernels.levels import imaged_field
        from xoctnorm.kernels.masks import otsu_agarose_mask, without_small_parts
        from xoctnorm.kernels.otsu_series import bridged, otsu_series

        notes: list[str] = []
        if not self.wants_section_means:
            mask, threshold = otsu_agarose_mask(volume.survey.mean, self.smoothing_sigma)
            masks, thresholds = mask[None], xr.Variable((), threshold)
        else:
            if self.per_plane:
                images, masks = volume.raw_planes(), _masks_of_planes(volume)
            else:
                images, masks = (
                    iter(self._images(volume)),
                    np.empty((len(volume.sections), *volume.survey.mean.shape), bool),
                )
            values, contrasts = otsu_series(images, self.smoothing_sigma, masks)
            weak = bridged(masks, contrasts)
            thresholds = volume.per_plane(values) if self.per_plane else xr.Variable((SECTIONS,), values)
            if weak.size:
                what = weak if self.per_plane else [volume.sections.labels[row] for row in weak]
                notes.append(
                    f"{'plane' if self.per_plane else 'section'} {listed(what)}: Otsu's classes lie much nearer to "
                    "each other than elsewhere, so the outline is that of its neighbours"
                )
        least = self._least(volume, 0)
        if volume.seeds is not None or least > 1:
            field = imaged_field(volume.survey.mean)
            seeds = self._seeds(volume, len(volume.sections) if self.wants_section_means else 1)
            sure = [None if seed is None else alike(seed & field, masks) for seed in seeds]
            field, rows = alike(field, masks), volume.sections.index if self.per_plane else np.arange(len(masks))
            for number, row in enumerate(rows.tolist()):
                image = masks[number] if sure[row] is None else masks[number] | sure[row]
                masks[number] = without_small_parts(image, field, least)
        raise_problems("agarose mask", coverage_problems("the mask by Otsu's threshold", masks))
        variables = {"agarose_mask": self._variable(volume, masks), "otsu_threshold": thresholds}
        return xr.Dataset(variables), notes


@dataclass(frozen=True)
class BorderMask(FoundMask):
    """Agarose as the darkest class, on log intensity, that touches the border of the imaged field.

    Where the border is brighter than everything inside, it is the brightest.

    Parameters
    ----------
    smoothing_sigma, per_section, per_plane, min_area
        Those of `FoundMask`; parts below the area of 25 pixels are dropped by default.
    required
        Whether a volume without agarose is an error; else its masks are empty.
    """

    name: ClassVar[str] = "border_mask"
    required: bool = True

    def problems(self) -> list[str]:
        """See `Correction.problems`."""
        needed = isinstance(self.required, bool | np.bool_)
        return super().problems() + ([] if needed else [f"required={self.required!r}: needs True or False"])

    def fit(self, volume: Volume) -> tuple[xr.Dataset, list[str]]:
        """Find the masks on the mean projections of the survey; no read, one for a mask per plane."""
        from xoctnorm.kernels.consensus import ABSENT, series_agarose
        from xoctnorm.kernels.fine_outlines import fine_masks
        from xoctnorm.kernels.levels import Scale
        from xoctnorm.kernels.masks import without_small_parts
        from xoctnorm.kernels.outlines import REACH, outlines
        from xoctnorm.kernels.section_images import SectionImages

        fine = self._images(volume)
        fine_seeds = self._seeds(volume, len(fine))
        # Outlines of single planes are looked for at full resolution, so that of their section has to be there too.
        factor = 1 if self.per_plane else coarse_factor(*volume.data.shape[-2:])
        if factor > 1 and isinstance(fine, SectionImages):
            means = fine.blocks()
        else:
            means = np.stack([coarse_plane(image.astype(np.float32, copy=False), factor) for image in fine])
        seeds = [coarse_seeds(one, factor) for one in fine_seeds]
        scale = Scale.of(means, seeds)
        outlined = outlines(means, scale, self.smoothing_sigma / factor, seeds, REACH / factor)
        found = series_agarose(outlined, seeds)
        nothing = np.isnan(found.step) or all(how == ABSENT for how in found.origin)
        if nothing and self.required:
            raise_problems("agarose mask", [f"method='border' finds {_NOTHING}"])
        least = self._least(volume, _DEFAULT_PIXELS) / factor**2
        masks = np.stack(
            list(
                in_threads(
                    lambda i: without_small_parts(found.masks[i], outlined[i].field, least), range(len(found.masks))
                )
            )
        )
        measures = _measures(masks, [one.field for one in outlined])
        dims = (SECTIONS,) if self.wants_section_means else ()
        if self.per_plane:
            masks = self._of_planes(volume, outlined, replace(found, masks=masks), scale, least)
        problems = coverage_problems("the mask by method='border'", masks)
        if problems and not self.required:
            nothing, masks, measures = True, namespace(masks).zeros_like(masks), np.zeros_like(measures)
            found = replace(found, origin=(ABSENT,) * len(found.origin))
        elif problems:
            raise_problems("agarose mask", problems)
        if factor > 1:
            found = replace(found, masks=masks)
            masks = fine_masks(fine, outlined, found, fine_seeds, factor, least * factor**2)

        def table(values: NDArray[np.generic]) -> xr.Variable:
            return xr.Variable(dims, values if dims else values[0])

        fitted = xr.Dataset(
            {
                "agarose_mask": self._variable(volume, masks),
                "agarose_origin": table(np.array(found.origin)),
                "agarose_separability": table(found.separability),
                "agarose_coverage": table(measures[:, 0]),
                "agarose_contact": table(measures[:, 1]),
            }
        )
        if nothing:
            return fitted, [f"no agarose is found in the volume: there is {_NOTHING}"]
        return fitted, _notes(volume, found) if self.wants_section_means else []

    def _of_planes(
        self, volume: Volume, outlined: Shelf[Outlined], found: Agarose, scale: Scale, least: float
    ) -> Images:
        """Masks of all planes, where these are; one read."""
        from xoctnorm.kernels.consensus import ABSENT, BY_OUTLINE
        from xoctnorm.kernels.depth_series import plane_masks
        from xoctnorm.kernels.masks import without_small_parts
        from xoctnorm.statistics import by_section

        like, masks, number = memory_of(volume.data), _masks_of_planes(volume), 0
        for row, of_section in enumerate(by_section(volume.raw_planes(), volume.sections.index)):
            one = outlined[row]
            field, mask = alike(one.field, like), alike(found.masks[row], like)
            settled = found.origin[row] not in (ABSENT, BY_OUTLINE) and one.found
            in_order: Iterator[NDArray[np.bool_]] = (
                plane_masks(of_section, one, mask, found.step, scale) if settled else (mask for _ in of_section)
            )
            for of_plane in in_order:
                masks[number] = without_small_parts(of_plane, field, least)
                number += 1
        return masks


@dataclass(frozen=True)
class AutoMask(FoundMask):
    """Agarose by the border method where that is trustworthy, else by Otsu's threshold; the record says why.

    The parameters are those of `FoundMask`.
    """

    name: ClassVar[str] = "auto_mask"

    def fit(self, volume: Volume) -> tuple[xr.Dataset, list[str]]:
        """Judge separability, coverage and contact with the border; no read, one for a mask per plane."""
        parameters = self.parameters()
        by_otsu = self._judged(volume, OtsuMask(**parameters | {"per_plane": False, "min_area": self.min_area}))
        images = volume.survey.section_images
        kept = None if images is None else images.copy()  # Otsu's method may yet need them
        try:
            fitted, notes = BorderMask(**parameters).fit(volume)
        except ValueError as error:
            reason = f"method='border' is out of the question ({'; '.join(getattr(error, 'problems', [str(error)]))})"
        else:
            separability = float(np.median(fitted["agarose_separability"]))
            coverage, contact = (float(np.mean(fitted[f"agarose_{what}"])) for what in ("coverage", "contact"))
            numbers = (
                f"its agarose covers {coverage:.1%} of the imaged field and {contact:.0%} of its border, and tissue "
                f"begins {separability:.1f} standard deviations above it; {by_otsu}"
            )
            clear = separability >= _CLEAR and _LEAST_COVERAGE <= coverage <= 1 - _LEAST_COVERAGE
            if clear and (contact >= _LEAST_CONTACT or volume.seeds is not None):
                fitted.attrs["decisions"] = [f"agarose mask by method='border': {numbers}"]
                return fitted, notes
            reason = (
                f"method='border' is not clear enough: {numbers}; at least {_CLEAR:g} standard deviations, "
                f"{_LEAST_COVERAGE:.1%} of the field and {_LEAST_CONTACT:.0%} of its border are asked for"
            )
        fitted, notes = OtsuMask(**parameters).fit(replace(volume, survey=replace(volume.survey, section_images=kept)))
        decision = f"agarose mask by method='otsu', which should be looked at: {reason}"
        fitted.attrs["decisions"] = [decision]
        return fitted, [*notes, decision]

    def _judged(self, volume: Volume, otsu: OtsuMask) -> str:
        """What is to be said of Otsu's mask."""
        from xoctnorm.kernels.levels import imaged_field

        try:
            found, _ = otsu.fit(volume)
        except ValueError:
            return "Otsu's threshold finds no agarose"
        masks = found["agarose_mask"].to_numpy().reshape(-1, *volume.survey.mean.shape)
        fields = [imaged_field(mean) for mean in self._images(volume)]
        masks = masks if len(masks) == len(fields) else np.broadcast_to(masks[:1], (len(fields), *masks.shape[1:]))
        coverage, contact = _measures(masks, fields).mean(axis=0)
        return f"Otsu's covers {coverage:.1%} and {contact:.0%}"


@dataclass(frozen=True)
class GivenMask(Correction):
    """Agarose where the user says so."""

    name: ClassVar[str] = "given_mask"

    def problems(self) -> list[str]:
        """See `Correction.problems`: there are no parameters."""
        return []

    def fit(self, volume: Volume) -> tuple[xr.Dataset, list[str]]:
        """Take the mask that the volume came with."""
        assert volume.agarose is not None
        given = volume.agarose.variable
        return xr.Dataset({"agarose_mask": (given.dims, as_array(given.data).copy())}), []

    def apply(self, planes: PlanesT, fitted: xr.Dataset) -> PlanesT:
        """Leave intensities alone."""
        return planes


METHODS: dict[str, type[FoundMask]] = {"otsu": OtsuMask, "border": BorderMask, "auto": AutoMask}


def _masks_of_planes(volume: Volume) -> Images:
    """Room for the masks of all planes, where these are."""
    shape = (len(volume.sections.index), *volume.data.shape[-2:])
    room: Images = namespace(memory_of(volume.data)).empty(shape, dtype=bool)
    return room


def _measures(masks: Images, fields: list[NDArray[np.bool_]]) -> NDArray[np.float64]:
    """For every image, the share of its field, and of the border of its field, that is agarose."""
    from xoctnorm.kernels.levels import rim

    return np.array(
        [
            (mask[field].mean(), mask[rim(field)].mean()) if field.any() else (0.0, 0.0)
            for mask, field in zip(masks, fields, strict=True)
        ]
    )


def _notes(volume: Volume, found: Agarose) -> list[str]:
    """Sections that do not speak for themselves."""
    from xoctnorm.kernels.consensus import ABSENT, BY_LEVEL, BY_OUTLINE

    said = {
        ABSENT: "shows no agarose, so none is marked there",
        BY_OUTLINE: "shows no contrast between agarose and tissue, so the outline is that of its neighbours",
        BY_LEVEL: "has no dark class of its own, so agarose is what lies at the level that its neighbours suggest",
    }
    rows = {how: [row for row, origin in enumerate(found.origin) if origin == how] for how in said}
    return [
        f"section {listed([volume.sections.labels[row] for row in rows[how]])}: {text}"
        for how, text in said.items()
        if rows[how]
    ]
