"""The whole job: fit, apply, and both in one call."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import xarray as xr
from numpy.typing import DTypeLike

from xoctnorm import recipes
from xoctnorm.accessor.part import Part
from xoctnorm.applying import Form, apply
from xoctnorm.fitting import Mask
from xoctnorm.settings import NoiseFloor, Normalization


class WholeJob(Part):
    """Fit, apply, and both in one call."""

    def fit(
        self,
        *,
        agarose_mask: Mask | str | None = None,
        drift: str | None = Normalization.drift,
        flatten_depth: bool = Normalization.flatten_depth,
        lateral: str | None = Normalization.lateral,
        noise_floor: NoiseFloor = Normalization.noise_floor,
        intensity: str = Normalization.intensity,
        exclude: Sequence[Hashable] = Normalization.exclude,
        reference_tissue: str = Normalization.reference_tissue,
        max_depth_gain: float = Normalization.max_depth_gain,
        first_depth: int | None = Normalization.first_depth,
        blend: int = Normalization.blend,
        floor: str | None = Normalization.floor,
        percentile_max: float = Normalization.percentile_max,
        smoothing_sigma: float = Normalization.smoothing_sigma,
        divisor_percentile: float = Normalization.divisor_percentile,
        smooth_sigma: float = Normalization.smooth_sigma,
        percentile: float = Normalization.percentile,
        min_scale: float = Normalization.min_scale,
        max_scale: float = Normalization.max_scale,
        n_bins: int = Normalization.n_bins,
        tissue_threshold: float = Normalization.tissue_threshold,
        max_slope: float = Normalization.max_slope,
        strength: float = Normalization.strength,
        zprofile_sigma: float = Normalization.zprofile_sigma,
        min_tissue_voxels: int = Normalization.min_tissue_voxels,
        section: str = Normalization.section,
    ) -> xr.Dataset:
        """Fit the whole job and return the correction, without applying it.

        The parameters are those of `normalize`. Reads the volume twice, once more for a drift correction
        and once more for the z-profile.

        Returns
        -------
        xarray.Dataset
            The correction: every fitted number, the section table with the dim ``section_label``, and the
            record. It can be looked at, edited, saved with ``to_netcdf``, loaded, and applied with `apply`
            to volumes with the same planes.

        Raises
        ------
        InputError
            See `normalize`.

        Examples
        --------
        >>> from xoctnorm.phantom import make_phantom
        >>> volume = make_phantom(shape=(64, 80), n_sections=4, planes_per_section=5)["volume"]
        >>> correction = volume.octnorm.fit()
        >>> correction.smoothed_metric.dims
        ('section_label',)
        >>> volume.octnorm.apply(correction).identical(volume.octnorm.normalize())
        False
        >>> volume.octnorm.apply(correction).equals(volume.octnorm.normalize())
        True
        """
        settings = Normalization(
            drift=drift,
            flatten_depth=flatten_depth,
            lateral=lateral,
            noise_floor=noise_floor,
            intensity=intensity,
            exclude=exclude,
            reference_tissue=reference_tissue,
            max_depth_gain=max_depth_gain,
            first_depth=first_depth,
            blend=blend,
            floor=floor,
            percentile_max=percentile_max,
            smoothing_sigma=smoothing_sigma,
            divisor_percentile=divisor_percentile,
            smooth_sigma=smooth_sigma,
            percentile=percentile,
            min_scale=min_scale,
            max_scale=max_scale,
            n_bins=n_bins,
            tissue_threshold=tissue_threshold,
            max_slope=max_slope,
            strength=strength,
            zprofile_sigma=zprofile_sigma,
            min_tissue_voxels=min_tissue_voxels,
            section=section,
        )
        return recipes.fit_normalization(self._volume, settings, agarose_mask)

    def apply(
        self,
        correction: xr.Dataset,
        *,
        match: str = "coordinates",
        dtype: DTypeLike = np.float32,
        attach: bool = True,
    ) -> xr.DataArray:
        """Apply a correction to this volume: the one it was fitted to, or another with the same planes.

        Planes are matched by their position: there must be equally many, at the same z within 1 % of their
        spacing, with the same section labels, where both sides have them. Sizes along y and x may differ,
        as on another pyramid level; the agarose mask is then not attached. Looks at metadata only, so it
        stays lazy; reads the volume once when the result is computed.

        Parameters
        ----------
        correction
            What `fit` returned.
        match
            ``"coordinates"``, or ``"position"`` to compare only the number of planes.
        dtype
            Floating dtype of the result. The computation is in float32.
        attach
            Whether the fitted numbers come along as coordinates.

        Returns
        -------
        xarray.DataArray
            The corrected volume, see `normalize`.

        Raises
        ------
        InputError
            For a correction whose planes are not those of the volume: it names the first that differs.
        """
        return apply(self._volume, correction, Form(dtype, attach), match=match)

    def normalize(
        self,
        *,
        agarose_mask: Mask | str | None = None,
        drift: str | None = Normalization.drift,
        flatten_depth: bool = Normalization.flatten_depth,
        lateral: str | None = Normalization.lateral,
        noise_floor: NoiseFloor = Normalization.noise_floor,
        intensity: str = Normalization.intensity,
        exclude: Sequence[Hashable] = Normalization.exclude,
        reference_tissue: str = Normalization.reference_tissue,
        max_depth_gain: float = Normalization.max_depth_gain,
        first_depth: int | None = Normalization.first_depth,
        blend: int = Normalization.blend,
        floor: str | None = Normalization.floor,
        percentile_max: float = Normalization.percentile_max,
        smoothing_sigma: float = Normalization.smoothing_sigma,
        divisor_percentile: float = Normalization.divisor_percentile,
        smooth_sigma: float = Normalization.smooth_sigma,
        percentile: float = Normalization.percentile,
        min_scale: float = Normalization.min_scale,
        max_scale: float = Normalization.max_scale,
        n_bins: int = Normalization.n_bins,
        tissue_threshold: float = Normalization.tissue_threshold,
        max_slope: float = Normalization.max_slope,
        strength: float = Normalization.strength,
        zprofile_sigma: float = Normalization.zprofile_sigma,
        min_tissue_voxels: int = Normalization.min_tissue_voxels,
        section: str = Normalization.section,
        dtype: DTypeLike = np.float32,
        attach: bool = True,
    ) -> xr.DataArray:
        """Normalize a volume: background, drift between sections and z-profile in one call.

        Every plane is clipped at its percentile and at its agarose median, the median is subtracted, and
        one divisor scales the volume; then drift between sections and jitter between planes are corrected,
        and the result is clipped to 0…1. With ``drift=None`` and no z-profile it is the reference's
        ``normalize_volume`` with the reference's mask, to the bit.

        Parameters
        ----------
        agarose_mask
            True on agarose: bool ``(y, x)``, or one such mask per section (dim ``section_label``, or the section
            coordinate's name) or per plane, as DataArray or array. A name finds one per section by that method:
            ``"border"``, ``"otsu"`` or ``"auto"``, see `agarose_mask`. None finds one for all planes, as the
            reference does.
        percentile_max
            Percentile of the plane, 0 to 100, that caps it.
        smoothing_sigma
            Smoothing before Otsu's threshold, in pixels, 0 or more.
        divisor_percentile
            Percentile over planes, 0 to 100, of the span from background to cap that becomes 1. Lower it
            where single planes are specular.
        drift
            ``"scale"`` brings the smoothed percentile of every section to the median by one factor,
            ``"histogram"`` matches the histogram of every section to that of the volume, None does neither.
        lateral
            With ``flatten_depth=True``: how flattening follows a decay that varies over the field. ``"smooth"``: by a
            gain over depth and 8 x 8 places, bilinear between them; ``"tiles"``: by one between seams, of which it
            looks for one along y and one along x. Between 1/1.5 and 1.5. None: not at all.
        smooth_sigma
            For ``"scale"``: smoothing over sections, in sections, 0 or more.
        percentile
            For ``"scale"``: percentile, 0 to 100, of the voxels of a section above 0.
        min_scale, max_scale
            For ``"scale"``: smallest and largest factor, above 0.
        n_bins
            For ``"histogram"``: number of bins, 2 or more.
        tissue_threshold
            For ``"histogram"``: voxels at or below it are neither counted nor changed; below 1.
        strength
            0 to 1, how much of the drift correction is applied.
        zprofile_sigma
            Smoothing of the profile along z, in planes; 0 leaves it out.
        min_tissue_voxels
            A plane with fewer voxels of tissue is left out of the z-profile.
        section
            Name of the coordinate, dimension or index level that groups planes; ``"z"`` makes every plane a
            section.
        dtype
            Floating dtype of the result. The computation is in float32.
        attach
            Whether the fitted numbers come along as coordinates.

        Returns
        -------
        xarray.DataArray
            The volume in 0…1, agarose at 0, with its dims and coordinates as they were; attached:
            ``background_threshold``, ``clip_threshold``, ``scale_factor``, ``zprofile_gain`` along z,
            ``agarose_mask``, ``otsu_threshold``, ``divisor``. Attributes ``history`` and
            ``xoctnorm_provenance`` tell what was done. Chunked volumes give lazy results with the same bits.

        Raises
        ------
        InputError
            For a DataArray that is no volume (dims, dtype, size, undecoded attributes); infinite, constant
            or nowhere positive values; a mask that does not fit or has fewer than 100 pixels; parameters out
            of their range; sections that come back or have no label; names that the result needs.

        Warns
        -----
        OctnormWarning
            Where a drift correction is asked for and there are no sections; planes have fewer than 100
            agarose pixels with data (no background is subtracted there); sections have fewer than 500 voxels
            above 0; planes are constant; the volume is already normalized; a parameter has no effect.

        References
        ----------
        The five functions of linumpy, `linumpy.intensity.normalization`; Otsu 1979,
        doi:10.1109/TSMC.1979.4310076.

        Examples
        --------
        >>> from xoctnorm.phantom import make_phantom
        >>> volume = make_phantom(shape=(64, 80), n_sections=4, planes_per_section=5)["volume"]
        >>> normalized = volume.octnorm.normalize(drift="histogram", zprofile_sigma=2.0)
        >>> float(normalized.min()), float(normalized.max()) <= 1
        (0.0, True)
        """
        settings = Normalization(
            drift=drift,
            flatten_depth=flatten_depth,
            lateral=lateral,
            noise_floor=noise_floor,
            intensity=intensity,
            exclude=exclude,
            reference_tissue=reference_tissue,
            max_depth_gain=max_depth_gain,
            first_depth=first_depth,
            blend=blend,
            floor=floor,
            percentile_max=percentile_max,
            smoothing_sigma=smoothing_sigma,
            divisor_percentile=divisor_percentile,
            smooth_sigma=smooth_sigma,
            percentile=percentile,
            min_scale=min_scale,
            max_scale=max_scale,
            n_bins=n_bins,
            tissue_threshold=tissue_threshold,
            max_slope=max_slope,
            strength=strength,
            zprofile_sigma=zprofile_sigma,
            min_tissue_voxels=min_tissue_voxels,
            section=section,
        )
        return recipes.normalize(self._volume, settings, agarose_mask, Form(dtype, attach))
