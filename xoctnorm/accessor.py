"""The accessor ``.octnorm``: documentation and delegation."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import DTypeLike

from xoctnorm import recipes
from xoctnorm.applying import Form, apply
from xoctnorm.corrections import HistogramMatch, OtsuMask, PercentileScale, ZProfile
from xoctnorm.fitting import Mask
from xoctnorm.recipes import Normalization
from xoctnorm.sections import find_sections, sections_table


@xr.register_dataarray_accessor("octnorm")
class OctnormAccessor:
    """Intensity normalization of a serial-section OCT volume.

    A volume is a DataArray with dims ``z``, ``y`` and ``x`` in any order, of any real dtype but bool.
    Further dims (``channel``, ``time``) are independent volumes. Sections come from the coordinate
    ``section`` along ``z``, from a dimension, or from a level of a MultiIndex. NaN means "no data": it is
    left out of every statistic and stays NaN. Negative voxels are values like others. The input is never
    changed. A chunked volume is read a block of planes at a time to fit, and corrected lazily.

    Everything that is wrong with a call is reported in one `InputError`. What a user should know of a
    result, for instance planes without enough agarose, comes as `OctnormWarning` and is recorded.

    Examples
    --------
    >>> import xarray as xr
    >>> import xoctnorm
    >>> from xoctnorm.phantom import make_phantom
    >>> volume = make_phantom(shape=(64, 80), n_sections=4, planes_per_section=5)["volume"]
    >>> normalized = volume.octnorm.normalize()
    >>> normalized.dims, normalized.scale_factor.dims
    (('z', 'y', 'x'), ('z',))
    """

    def __init__(self, volume: xr.DataArray) -> None:
        self._volume = volume

    @property
    def sections(self) -> pd.DataFrame:
        """Table of the sections: label, number of planes, first and last plane, first and last z.

        Without a coordinate ``section`` the volume is one section. Planes count from 0; with a section
        dimension they are numbered section by section.

        Raises
        ------
        InputError
            For NaN labels, or labels that come back after another label.
        """
        return sections_table(self._volume, find_sections(self._volume))

    def assign_sections(
        self, *, n: int | None = None, thickness: float | None = None, starts: Sequence[int] | None = None
    ) -> xr.DataArray:
        """Add the coordinate ``section`` along z, with labels that count from 0.

        Parameters
        ----------
        n
            Number of sections: plane ``round(i * n_z / n)``, halves to even, is the first of section i,
            as the reference divides.
        thickness
            Thickness of a section in units of the z coordinate, counted from the first plane. A section
            without a plane leaves its label out.
        starts
            First plane of every section, from 0.

        Returns
        -------
        xarray.DataArray
            The volume with the coordinate.

        Raises
        ------
        InputError
            Unless exactly one argument is given and fits, or where there are sections already.

        Examples
        --------
        >>> import numpy as np, xarray as xr, xoctnorm
        >>> volume = xr.DataArray(np.ones((5, 2, 2)), dims=("z", "y", "x"))
        >>> volume.octnorm.assign_sections(starts=[0, 3]).section.values
        array([0, 0, 0, 1, 1])
        """
        return recipes.assign_sections(self._volume, n, thickness, starts)

    def agarose_mask(
        self, *, smoothing_sigma: float = OtsuMask.smoothing_sigma, section: str = "section"
    ) -> xr.DataArray:
        """Agarose by Otsu's threshold on the smoothed mean projection, as in the reference.

        Agarose is where the smoothed mean along z is below the threshold and the mean is above 0. It is
        one outline for all planes, and right where the tissue fills most of it in every section.
        Reads the volume once.

        Parameters
        ----------
        smoothing_sigma
            Standard deviation of the Gaussian in the plane, in pixels, 0 or more.
        section
            Name of the section dimension, where there is one.

        Returns
        -------
        xarray.DataArray
            bool, ``(y, x)`` and further dims, True on agarose, with the scalar ``otsu_threshold``.

        Raises
        ------
        InputError
            For a volume that cannot be corrected, or a mask with fewer than 100 pixels.

        Examples
        --------
        >>> from xoctnorm.phantom import make_phantom
        >>> volume = make_phantom(shape=(64, 80), n_sections=2, planes_per_section=3)["volume"]
        >>> volume.octnorm.agarose_mask().dims
        ('y', 'x')
        """
        return recipes.agarose_mask(self._volume, OtsuMask(smoothing_sigma), section=section)

    def tissue_mask(
        self,
        *,
        agarose_mask: Mask | None = None,
        smoothing_sigma: float = OtsuMask.smoothing_sigma,
        section: str = "section",
    ) -> xr.DataArray:
        """Tissue: what is neither agarose nor empty (0 or NaN).

        Parameters
        ----------
        agarose_mask
            bool ``(y, x)``; None takes the mask that is attached to the volume, else finds one.
        smoothing_sigma
            For finding a mask, see `agarose_mask`.
        section
            Name of the section dimension, where there is one.

        Returns
        -------
        xarray.DataArray
            bool, with the dims and coordinates of the volume; lazy where the volume is chunked.

        Raises
        ------
        InputError
            For a mask that does not fit, and as `agarose_mask`.
        """
        return recipes.tissue_mask(self._volume, agarose_mask, OtsuMask(smoothing_sigma), section=section)

    def fit(
        self,
        *,
        agarose_mask: Mask | None = None,
        percentile_max: float = Normalization.percentile_max,
        smoothing_sigma: float = Normalization.smoothing_sigma,
        divisor_percentile: float = Normalization.divisor_percentile,
        drift: str | None = Normalization.drift,
        smooth_sigma: float = Normalization.smooth_sigma,
        percentile: float = Normalization.percentile,
        min_scale: float = Normalization.min_scale,
        max_scale: float = Normalization.max_scale,
        n_bins: int = Normalization.n_bins,
        tissue_threshold: float = Normalization.tissue_threshold,
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
            percentile_max=percentile_max,
            smoothing_sigma=smoothing_sigma,
            divisor_percentile=divisor_percentile,
            drift=drift,
            smooth_sigma=smooth_sigma,
            percentile=percentile,
            min_scale=min_scale,
            max_scale=max_scale,
            n_bins=n_bins,
            tissue_threshold=tissue_threshold,
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
        agarose_mask: Mask | None = None,
        percentile_max: float = Normalization.percentile_max,
        smoothing_sigma: float = Normalization.smoothing_sigma,
        divisor_percentile: float = Normalization.divisor_percentile,
        drift: str | None = Normalization.drift,
        smooth_sigma: float = Normalization.smooth_sigma,
        percentile: float = Normalization.percentile,
        min_scale: float = Normalization.min_scale,
        max_scale: float = Normalization.max_scale,
        n_bins: int = Normalization.n_bins,
        tissue_threshold: float = Normalization.tissue_threshold,
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
            bool ``(y, x)``, True on agarose, as DataArray or array; None finds it, see `agarose_mask`.
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
            percentile_max=percentile_max,
            smoothing_sigma=smoothing_sigma,
            divisor_percentile=divisor_percentile,
            drift=drift,
            smooth_sigma=smooth_sigma,
            percentile=percentile,
            min_scale=min_scale,
            max_scale=max_scale,
            n_bins=n_bins,
            tissue_threshold=tissue_threshold,
            strength=strength,
            zprofile_sigma=zprofile_sigma,
            min_tissue_voxels=min_tissue_voxels,
            section=section,
        )
        return recipes.normalize(self._volume, settings, agarose_mask, Form(dtype, attach))

    def scale_factors(
        self,
        *,
        smooth_sigma: float = PercentileScale.smooth_sigma,
        percentile: float = PercentileScale.percentile,
        min_scale: float = PercentileScale.min_scale,
        max_scale: float = PercentileScale.max_scale,
        strength: float = PercentileScale.strength,
        section: str = "section",
    ) -> xr.DataArray:
        """Factors of the drift correction by percentile scaling, of the values as they are.

        The parameters are those of `normalize`. Reads the volume twice.

        Returns
        -------
        xarray.DataArray
            float32 along z, and further dims.

        Raises
        ------
        InputError
            See `normalize`.
        """
        correction = PercentileScale(smooth_sigma, percentile, min_scale, max_scale, strength)
        return recipes.scale_factors(self._volume, correction, section=section)

    def correct_drift(
        self,
        *,
        smooth_sigma: float = PercentileScale.smooth_sigma,
        percentile: float = PercentileScale.percentile,
        min_scale: float = PercentileScale.min_scale,
        max_scale: float = PercentileScale.max_scale,
        strength: float = PercentileScale.strength,
        section: str = "section",
        dtype: DTypeLike = np.float32,
        attach: bool = True,
    ) -> xr.DataArray:
        """Multiply every plane by the factor of its section, see `scale_factors`.

        The parameters are those of `normalize`. As a single step it does not clip: a normalized volume can
        exceed 1 until the end of a chain, where ``.clip(0, 1)`` gives what `normalize` gives. Reads the
        volume twice to fit.

        Returns
        -------
        xarray.DataArray
            The corrected volume, with ``scale_factor`` attached.

        Raises
        ------
        InputError
            See `normalize`.
        """
        correction = PercentileScale(smooth_sigma, percentile, min_scale, max_scale, strength)
        return recipes.single_step(
            self._volume, correction, Form(dtype, attach), method="correct_drift", section=section
        )

    def match_histograms(
        self,
        *,
        n_bins: int = HistogramMatch.n_bins,
        tissue_threshold: float = HistogramMatch.tissue_threshold,
        strength: float = HistogramMatch.strength,
        section: str = "section",
        dtype: DTypeLike = np.float32,
        attach: bool = True,
    ) -> xr.DataArray:
        """Match the histogram of every section to that of the volume, on a normalized volume.

        The parameters are those of `normalize`; bins end at 1. Reads the volume twice to fit.

        Returns
        -------
        xarray.DataArray
            The corrected volume. The tables are in the correction that `fit` returns.

        Raises
        ------
        InputError
            See `normalize`.
        """
        return recipes.single_step(
            self._volume,
            HistogramMatch(n_bins, tissue_threshold, strength),
            Form(dtype, attach),
            method="match_histograms",
            section=section,
        )

    def smooth_zprofile(
        self,
        *,
        sigma: float = ZProfile.sigma,
        mask: Mask | None = None,
        min_tissue_voxels: int = ZProfile.min_tissue_voxels,
        section: str = "section",
        dtype: DTypeLike = np.float32,
        attach: bool = True,
    ) -> xr.DataArray:
        """Multiply every plane so that its mean over tissue lies on the profile smoothed along z.

        Reads the volume twice to fit. Does not clip, see `correct_drift`.

        Parameters
        ----------
        sigma
            Standard deviation of the Gaussian along z, in planes; 0 leaves the volume alone.
        mask
            bool with the dims of the volume, True on tissue: voxels outside are left alone, as in the
            reference. None takes what is neither agarose (as attached, else found) nor empty, and multiplies
            whole planes.
        min_tissue_voxels
            A plane with fewer voxels of tissue is left alone, and left out of the profile.
        section
            Name of the section dimension, where there is one.
        dtype
            Floating dtype of the result.
        attach
            Whether ``zprofile_gain`` comes along as a coordinate.

        Returns
        -------
        xarray.DataArray
            The corrected volume.

        Raises
        ------
        InputError
            See `normalize`.

        Warns
        -----
        OctnormWarning
            Where planes have too little tissue.
        """
        correction = ZProfile(sigma, min_tissue_voxels)
        return recipes.smooth_zprofile(self._volume, correction, mask, Form(dtype, attach), section=section)

    def to_netcdf(self, path: str | os.PathLike[str], *, complevel: int = 1) -> Path:
        """Write the volume, what is attached to it and its record to a NetCDF file, all or nothing.

        The file follows CF-1.11 and is read back, with everything attached, by `xarray.open_dataarray`. It is
        written under another name in the same folder and renamed when it is complete, so a crash leaves the
        old file or none.

        Parameters
        ----------
        path
            File to be written; an existing file is replaced. Its folder must exist.
        complevel
            Compression level of zlib, 0 (none) to 9.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        InputError, OSError
            Where the path is the input itself or cannot be written.
        """
        from xoctnorm.io import write_netcdf

        return write_netcdf(self._volume, path, complevel=complevel)
