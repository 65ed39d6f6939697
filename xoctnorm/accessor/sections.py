"""Sections and masks."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import xarray as xr

from xoctnorm.accessor.part import Part
from xoctnorm.agarose import Mask
from xoctnorm.corrections import FoundMask, OtsuMask


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
        from xoctnorm import recipes

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
        from xoctnorm import recipes

        return recipes.assign_sections(self._volume, n, thickness, starts)

    def agarose_mask(
        self,
        *,
        method: str = "otsu",
        per_section: bool = FoundMask.per_section,
        per_plane: bool = FoundMask.per_plane,
        smoothing_sigma: float = FoundMask.smoothing_sigma,
        seeds: Mask | None = None,
        min_area: float | None = FoundMask.min_area,
        section: str = "section",
    ) -> xr.DataArray:
        """Find the agarose around the tissue.

        ``"otsu"`` is the reference's: where the smoothed mean along z is below Otsu's threshold and the mean is
        above 0. It is right where there are two classes, agarose and tissue, in comparable shares. ``"border"``
        takes the darkest class, on log intensity, that is connected to the border of the imaged field, or the
        brightest, where the border is brighter than everything inside, and settles its outline half way to the
        nearest tissue. What is darker than agarose, such as a tear, counts to it. ``"auto"`` takes ``"border"``
        where its agarose is clearly apart from tissue and touches the border, else ``"otsu"``, and records why.
        Reads the volume once, with ``per_plane=True`` twice.

        Parameters
        ----------
        method
            ``"otsu"``, ``"border"`` or ``"auto"``.
        per_section
            Whether every section gets an outline of its own. A section that shows no contrast takes over what
            its neighbours show; one without agarose gets none.
        per_plane
            Whether every plane gets one, by its own levels of agarose and tissue and together with the two
            planes on either side. The result is held in memory, that of the device where the volume is there:
            one byte per voxel.
        smoothing_sigma
            Standard deviation of the Gaussian in the plane, in pixels, 0 or more; ``"border"`` smooths up to 4
            pixels where noise asks for it.
        seeds
            True on some pixels that are certainly agarose: bool ``(y, x)``, or one per section. They say what
            agarose looks like, belong to it, and need not touch the border.
        min_area
            Parts of agarose, and holes in it, below this area become tissue and agarose; in units of y times
            units of x. None is the area of 25 pixels, for ``"otsu"`` 0.
        section
            Name of the section coordinate, dimension or index level.

        Returns
        -------
        xarray.DataArray
            bool, True on agarose, ``(y, x)`` and further dims; with a dim ``section_label`` for one per section,
            with the dims of planes for one per plane. With it come ``otsu_threshold``, or ``agarose_origin``,
            ``agarose_separability``, ``agarose_coverage`` and ``agarose_contact``. `normalize` takes it.

        Raises
        ------
        InputError
            For a volume that cannot be corrected, parameters out of their range, a mask with fewer than 100
            pixels, or where there is no agarose to be found.

        Warns
        -----
        OctnormWarning
            Where sections have no agarose, or take over what their neighbours show; where ``"auto"`` has to
            fall back on Otsu's threshold.

        Examples
        --------
        >>> from xoctnorm.phantom import make_phantom
        >>> volume = make_phantom(shape=(64, 80), n_sections=2, planes_per_section=3)["volume"]
        >>> volume.octnorm.agarose_mask().dims
        ('y', 'x')
        >>> volume.octnorm.agarose_mask(method="border", per_section=True).sizes
        Frozen({'section_label': 2, 'y': 64, 'x': 80})
        """
        parameters = {
            "smoothing_sigma": smoothing_sigma,
            "per_section": per_section,
            "per_plane": per_plane,
            "min_area": min_area,
        }
        from xoctnorm import recipes

        return recipes.agarose_mask(self._volume, method, parameters, seeds, section=section)

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
            bool ``(y, x)``, or one per section or per plane; None takes the mask that is attached to the volume,
            else finds one.
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
        from xoctnorm import recipes

        return recipes.tissue_mask(self._volume, agarose_mask, OtsuMask(smoothing_sigma), section=section)
