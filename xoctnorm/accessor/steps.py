"""The single steps."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import xarray as xr
from numpy.typing import DTypeLike

from xoctnorm.accessor.part import Part
from xoctnorm.agarose import Mask
from xoctnorm.corrections import HistogramMatch, PercentileScale, QuantileMatch, ZProfile
from xoctnorm.settings import USE_GPU, NoiseFloor, Normalization


class SingleSteps(Part):
    """Corrections one at a time, to be chained."""

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
        from xoctnorm import recipes

        return recipes.scale_factors(self._volume, correction, section=section)

    def correct_drift(
        self,
        *,
        method: str = "joint",
        agarose_mask: Mask | str | None = None,
        noise_floor: NoiseFloor = Normalization.noise_floor,
        intensity: str = Normalization.intensity,
        exclude: Sequence[Hashable] = Normalization.exclude,
        first_depth: int | None = Normalization.first_depth,
        blend: int = Normalization.blend,
        smooth_sigma: float = PercentileScale.smooth_sigma,
        percentile: float = PercentileScale.percentile,
        min_scale: float = PercentileScale.min_scale,
        max_scale: float = PercentileScale.max_scale,
        strength: float = PercentileScale.strength,
        section: str = "section",
        dtype: DTypeLike = np.float32,
        attach: bool = True,
        use_gpu: bool | str = USE_GPU,
    ) -> xr.DataArray:
        """Take out drift between sections: multiply every plane by its factor.

        ``method="joint"``, ``"agarose"`` and ``"continuity"`` work on the raw volume: linear intensity, without the
        noise floor, times the factor of the plane (gain of the section and jitter). `flatten_depth` goes on from there.
        ``method="scale"`` works on a volume that is normalized already, see `scale_factors`, and alone uses
        `smooth_sigma`, `percentile`, `min_scale` and `max_scale`. The parameters are those of `normalize`.

        As a single step it does not clip: a normalized volume can exceed 1 until the end of a chain, where
        ``.clip(0, 1)`` gives what `normalize` gives. Reads the volume three times to fit, twice for ``"scale"``.

        Returns
        -------
        xarray.DataArray
            The corrected volume, with ``scale_factor`` attached, and ``noise_floor`` where it was subtracted.

        Raises
        ------
        InputError
            See `normalize`.

        Examples
        --------
        >>> from xoctnorm.phantom import make_phantom
        >>> volume = make_phantom(n_sections=6, planes_per_section=6)["volume"]
        >>> even = volume.octnorm.correct_drift().octnorm.flatten_depth()
        >>> even.scale_factor.dims, even.depth_gain.dims
        (('z',), ('z',))
        """
        settings = Normalization(
            drift=method,
            noise_floor=noise_floor,
            intensity=intensity,
            exclude=exclude,
            first_depth=first_depth,
            blend=blend,
            smooth_sigma=smooth_sigma,
            percentile=percentile,
            min_scale=min_scale,
            max_scale=max_scale,
            strength=strength,
            section=section,
        )
        from xoctnorm import recipes
        from xoctnorm.applying import Form

        return recipes.correct_drift(self._volume, settings, agarose_mask, Form(dtype, attach, use_gpu))

    def flatten_depth(
        self,
        *,
        agarose_mask: Mask | str | None = None,
        noise_floor: NoiseFloor = Normalization.noise_floor,
        intensity: str = Normalization.intensity,
        exclude: Sequence[Hashable] = Normalization.exclude,
        reference_tissue: str = Normalization.reference_tissue,
        max_depth_gain: float = Normalization.max_depth_gain,
        lateral: str | None = Normalization.lateral,
        first_depth: int | None = Normalization.first_depth,
        blend: int = Normalization.blend,
        section: str = "section",
        dtype: DTypeLike = np.float32,
        attach: bool = True,
        use_gpu: bool | str = USE_GPU,
    ) -> xr.DataArray:
        """Take out the decay with depth that all sections share, and leave gains of sections as they are.

        Linear intensity, without the noise floor, is divided by the depth profile of the reference tissue: what pixels
        that keep their class through a section show, at equal depth, over all sections. The first plane below a
        cut has a value of its own; the rest is smooth. The gain is 1 at the brightest depth and at most
        `max_depth_gain`. Depth is the place of a plane in its section, or the coordinate ``depth`` along z. The
        parameters are those of `normalize`; `lateral` is for a decay that varies over the field. After `correct_drift`
        it goes on from there. Reads the volume three
        times to fit. Does not clip.

        Returns
        -------
        xarray.DataArray
            The corrected volume, with ``depth_gain`` and ``noise_floor`` attached.

        Raises
        ------
        InputError
            See `normalize`.

        Warns
        -----
        OctnormWarning
            With one section, whose decay can't be told from anatomy; where the gain ends at `max_depth_gain`.
        """
        settings = Normalization(
            drift=None,
            flatten_depth=True,
            lateral=lateral,
            noise_floor=noise_floor,
            intensity=intensity,
            exclude=exclude,
            reference_tissue=reference_tissue,
            max_depth_gain=max_depth_gain,
            first_depth=first_depth,
            blend=blend,
            section=section,
        )
        from xoctnorm import recipes
        from xoctnorm.applying import Form

        return recipes.flatten_depth(self._volume, settings, agarose_mask, Form(dtype, attach, use_gpu))

    def match_histograms(
        self,
        *,
        n_bins: int = HistogramMatch.n_bins,
        tissue_threshold: float = HistogramMatch.tissue_threshold,
        strength: float = HistogramMatch.strength,
        section: str = "section",
        dtype: DTypeLike = np.float32,
        attach: bool = True,
        use_gpu: bool | str = USE_GPU,
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
        from xoctnorm import recipes
        from xoctnorm.applying import Form

        return recipes.single_step(
            self._volume,
            HistogramMatch(n_bins, tissue_threshold, strength),
            Form(dtype, attach, use_gpu),
            method="match_histograms",
            section=section,
        )

    def match_quantiles(
        self,
        *,
        agarose_mask: Mask | str | None = None,
        strength: float = QuantileMatch.strength,
        max_slope: float = QuantileMatch.max_slope,
        section: str = "section",
        dtype: DTypeLike = np.float32,
        attach: bool = True,
        use_gpu: bool | str = USE_GPU,
    ) -> xr.DataArray:
        """Map every section so that its tissue has the quantiles that the others have at equal depth.

        With ``q_z(p)`` the quantiles of the tissue of plane ``z``, and ``r_d(p)`` their median over the planes at depth
        ``d`` of all sections, each first divided by the brightness of its section, the map of a section is the monotone
        one through the points ``(mean q_z(p), mean r_d(z)(p))``, means over its planes, for 128 levels ``p`` from 2 to
        98 %. It is linear between them and goes on in proportion beyond the outermost, so 0 stays 0; where tissue is
        negative it goes on with the mean slope. Where sections agree at equal depth it is the identity, to the bit.

        How much anatomy changes is told by the halves of sections. Where the shapes of maps differ by no more than that
        explains, the map of a section is a gain; where gains do not either, the volume is left alone.

        Meant for linear intensity without noise floor, where a gain is a factor. Takes for granted that sections have
        bright and dark tissue in the same shares; a section with much more white matter comes out too dark. Reads the
        volume twice to fit. Does not clip.

        Parameters
        ----------
        agarose_mask
            What is left out of the quantiles besides 0 and NaN: a mask or the name of a method, as in `normalize`.
            None takes the mask that is attached, else finds one per section with ``"border"``.
        strength
            0 to 1, the share of its way that an intensity goes: 0 leaves the volume alone, 1 maps fully.
        max_slope
            1 or more: the slope of the map is at most the overall gain of the section times this, and at least the gain
            divided by it, so that noise is not blown up. With 1 the map is that gain.
        section
            Name of the coordinate, dimension or index level that groups planes.
        dtype
            Floating dtype of the result. The computation is in float64, between float32 values.
        attach
            Whether the agarose mask comes along as a coordinate.

        Returns
        -------
        xarray.DataArray
            The corrected volume, in its units.

        Raises
        ------
        InputError
            See `normalize`.

        Warns
        -----
        OctnormWarning
            Where there are no sections; where no plane of a section has 500 voxels of tissue (it is left alone);
            where a plane is 1.5 times brighter or darker than the rest of its section (it is left out of the match);
            where sections differ by no more than anatomy explains, but by more than 2 % (the volume is left alone);
            and where the agarose that is found should be looked at.
        """
        correction = QuantileMatch(strength, max_slope)
        from xoctnorm import recipes
        from xoctnorm.applying import Form

        return recipes.match_quantiles(
            self._volume, correction, agarose_mask, Form(dtype, attach, use_gpu), section=section
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
        use_gpu: bool | str = USE_GPU,
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
        from xoctnorm import recipes
        from xoctnorm.applying import Form

        return recipes.smooth_zprofile(self._volume, correction, mask, Form(dtype, attach, use_gpu), section=section)
