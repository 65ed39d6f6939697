"""The whole job: fit, apply, and both in one call."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import xarray as xr
from numpy.typing import DTypeLike

from xoctnorm.accessor.part import Part
from xoctnorm.agarose import Mask
from xoctnorm.settings import USE_GPU, NoiseFloor, Normalization


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
        use_gpu: bool | str = USE_GPU,
    ) -> xr.Dataset:
        """Fit the whole job and return the correction, without applying it.

        The parameters are those of `normalize`. Reads the volume three times for ``"joint"``, ``"agarose"`` and
        ``"continuity"`` (survey, ends of sections, sums and brightest values), with ``floor="agarose"`` or ``lateral``
        four times, and besides at most 24 planes; three times for ``"quantile"``, or with flattening five; twice for
        the reference's methods, and once more for their drift correction; once more for the z-profile,
        but for ``"histogram"`` with ``tissue_threshold=0``, which has counted what that needs.

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
        >>> volume = make_phantom(n_sections=6, planes_per_section=6)["volume"]
        >>> correction = volume.octnorm.fit()
        >>> correction.section_gain.dims, correction.scale_factor.dims
        (('section_label',), ('z',))
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
        from xoctnorm import recipes

        return recipes.fit_normalization(self._volume, settings, agarose_mask, use_gpu=use_gpu)

    def apply(
        self,
        correction: xr.Dataset,
        *,
        match: str = "coordinates",
        dtype: DTypeLike = np.float32,
        attach: bool = True,
        use_gpu: bool | str = USE_GPU,
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
        use_gpu
            See `normalize`.

        Returns
        -------
        xarray.DataArray
            The corrected volume, see `normalize`.

        Raises
        ------
        InputError
            For a correction whose planes are not those of the volume: it names the first that differs.
        """
        from xoctnorm.applying import Form, apply

        return apply(self._volume, correction, Form(dtype, attach, use_gpu), match=match)

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
        use_gpu: bool | str = USE_GPU,
    ) -> xr.DataArray:
        """Normalize a volume: noise floor, drift between sections, jitter and, where asked for, decay, in one call.

        By default a model of agarose and tissue is fitted to linear intensity: noise floor, gain of every section,
        jitter of every plane, and the depth profile that sections share. The floor is subtracted, gain and jitter are
        divided out, with ``flatten_depth=True`` the profile too, and one divisor scales the volume. Agarose stays small
        and positive. The result is clipped to 0…1.

        With ``drift=None``, ``"scale"`` or ``"histogram"`` every plane is clipped at its percentile and at its agarose
        median, and the median is subtracted, as the reference does; ``drift=None`` without a z-profile is its
        ``normalize_volume`` with its mask, to the bit.

        Parameters
        ----------
        agarose_mask
            True on agarose: bool ``(y, x)``, or one such mask per section (dim ``section_label``, or the section
            coordinate's name) or per plane, as DataArray or array. A name finds one per section by that method:
            ``"border"``, ``"otsu"`` or ``"auto"``, see `agarose_mask`. None is ``"border"``, and does without where it
            finds no agarose; with the reference's methods it is one mask for all planes by Otsu's threshold.
        drift
            ``"joint"`` takes gains from agarose and from tissue that continues across cuts, each with the weight that
            it deserves; ``"agarose"`` and ``"continuity"`` from one of them. ``"quantile"`` matches quantiles of tissue
            at equal depth by a monotone map per section, once the model has taken the jitter of planes out. The
            reference's: ``"scale"`` brings the smoothed percentile of every section to the median by one factor,
            ``"histogram"`` matches the histogram of every section to that of the volume, None does neither.
        flatten_depth
            Whether planes are divided by the depth profile that sections share, see `flatten_depth`. With
            ``drift=None`` the decay alone is taken out.
        lateral
            With ``flatten_depth=True``: how flattening follows a decay that varies over the field. ``"smooth"``: by a
            gain over depth and 8 x 8 places, bilinear between them; ``"tiles"``: by one between seams, of which it
            looks for one along y and one along x. Between 1/1.5 and 1.5. None: not at all.
        noise_floor
            The floor that neither gain nor depth acts on, on linear intensity: ``"auto"`` finds it; a number, 0 or
            more; one number per plane or per depth; or a bool mask ``(y, x)``, or with the dims of the volume, that is
            True on voxels without signal, whose mean it is.
        intensity
            What the values are: ``"linear"``, ``"amplitude"`` (its square root), ``"db"``, or ``"auto"``: dB by the
            attribute ``units`` or by how the spread of agarose follows its mean, amplitude where ``long_name`` or the
            name says so. Results are on linear intensity.
        exclude
            Labels of damaged sections: they are left out of the fit, and their factors follow from their neighbours.
        reference_tissue
            The tissue whose profile is divided out: ``"dark"``, ``"bright"``, or ``"auto"``, the darker one where it
            is a tenth of the tissue or more and known well.
        max_depth_gain
            Largest gain by flattening, 1 or more, so that noise is not blown up at the bottom.
        first_depth
            Depth in planes of the first plane of the first section, 0 or more. None: 0, but a first section that is
            shorter than the others is taken for the lower part of one, with a warning.
        blend
            Number of planes after each cut that are blends of two sections: they are left out of the fit and get the
            blended gain.
        floor
            What becomes 0: ``"noise"``, the noise floor; ``"agarose"``, one level for the volume, the median of its
            agarose after correction. None is ``"noise"``, and with the reference's methods agarose of every plane.
        percentile_max
            Percentile of the plane, 0 to 100, that counts as its brightest; with the reference's methods it caps it.
        smoothing_sigma
            Smoothing before agarose is looked for, in pixels, 0 or more.
        divisor_percentile
            Percentile over planes, 0 to 100, of their brightest values that becomes 1. With the reference's methods
            lower it where single planes are specular; others leave such planes out.
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
        max_slope
            For ``"quantile"``: how many times the slope of the map may exceed, or fall below, the gain of the section.
        strength
            0 to 1, how much of the drift correction is applied.
        zprofile_sigma
            Smoothing of the profile along z, in planes; 0 leaves it out. The reference's way to take out jitter.
        min_tissue_voxels
            A plane with fewer voxels of tissue is left out of the z-profile.
        section
            Name of the coordinate, dimension or index level that groups planes; ``"z"`` makes every plane a
            section.
        dtype
            Floating dtype of the result. The computation is in float32.
        attach
            Whether the fitted numbers come along as coordinates.
        use_gpu
            True streams a volume of the host through a graphics processor, by CuPy, a block at a time, and the result
            comes back. Where there is no device that works the CPU computes, and the record says why;
            ``"require"`` makes that an error. A volume on a device, as from ``da.cupy.as_cupy()``, always stays there.

        Returns
        -------
        xarray.DataArray
            The volume in 0…1 with its dims and coordinates as they were; attached: ``scale_factor`` (with
            ``"quantile"`` that of jitter alone) and, with flattening, ``depth_gain`` along z, ``noise_floor``,
            ``divisor``, ``agarose_mask``; by the reference's methods ``background_threshold``, ``clip_threshold``,
            ``otsu_threshold``; ``zprofile_gain``. Attributes ``history`` and ``xoctnorm_provenance`` tell what was
            done. Chunked volumes give lazy results with the same bits.

        Raises
        ------
        InputError
            For a DataArray that is no volume (dims, dtype, size, undecoded attributes); infinite, constant
            or nowhere positive values; a mask that does not fit or has fewer than 100 pixels; parameters out
            of their range; sections that come back or have no label; names that the result needs.

        Warns
        -----
        OctnormWarning
            Where a drift correction is asked for and there are no sections; agarose is missing, or steps against
            tissue and so is no reference; the noise floor can't be told well; sections rest on their neighbours; the
            scale of intensities is not sure; planes have fewer than 100 agarose pixels with data (no background is
            subtracted there); sections have fewer than 500 voxels above 0; planes are constant; the volume is already
            normalized; a parameter has no effect.

        References
        ----------
        The model, with its assumptions and failures, is in ``docs/drift.md``. The reference: the five functions of
        linumpy, `linumpy.intensity.normalization`; Otsu 1979, doi:10.1109/TSMC.1979.4310076.

        Examples
        --------
        >>> from xoctnorm.phantom import make_phantom
        >>> phantom = make_phantom(n_sections=6, planes_per_section=6)
        >>> normalized = phantom["volume"].octnorm.normalize(flatten_depth=True)
        >>> gain = normalized.scale_factor * phantom["section_gain"] * phantom["plane_jitter"]
        >>> round(float(phantom["section_gain"].std()), 2), bool(gain.std() / gain.mean() < 0.015)
        (0.05, True)
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
        from xoctnorm import recipes
        from xoctnorm.applying import Form

        return recipes.normalize(self._volume, settings, agarose_mask, Form(dtype, attach, use_gpu))
