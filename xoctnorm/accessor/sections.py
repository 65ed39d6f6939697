"""Sections and masks."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import xarray as xr

from xoctnorm import recipes
from xoctnorm.accessor.part import Part
from xoctnorm.corrections import OtsuMask
from xoctnorm.fitting import Mask


class SectionsAndMasks(Part):
    """Which planes belong together, and where agarose and tissue are."""

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
        return recipes.sections_of(self._volume)

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
