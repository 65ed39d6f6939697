"""Pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import xarray as xr

from xoctnorm.accessor.part import Part
from xoctnorm.agarose import Mask

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Pictures:
    """Pictures of a volume and of what was fitted, ``da.octnorm.plot``; needs the extra ``plot``, matplotlib.

    Every method draws on the axes that are given as ``ax=``, else on a new figure as wide as a column, 85 mm, or of the
    size ``figsize=`` in inches, and returns what it drew: artists of matplotlib by name. Fitted numbers are those
    attached to the volume, which is the result of a correction. With ``correction=``, the Dataset of ``fit``, they are
    taken from there: only it has the tables of sections. Names and units come from attributes. Colours can be told
    apart by the colour-blind, on bright and on dark ground. Volumes are read a block of planes at a time, or in part.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> from xoctnorm.phantom import make_phantom
    >>> volume = make_phantom(n_sections=6, planes_per_section=6)["volume"]
    >>> correction = volume.octnorm.fit()
    >>> artists = volume.octnorm.plot.drift(correction=correction)
    >>> sorted(artists)
    ['factor', 'gain', 'sections']
    """

    def __init__(self, volume: xr.DataArray) -> None:
        self._volume = volume

    def mask(
        self,
        *,
        agarose_mask: Mask | None = None,
        correction: xr.Dataset | None = None,
        ax: Axes | None = None,
        figsize: tuple[float, float] | None = None,
    ) -> dict[str, Any]:
        """Draw the mean along z with the outline of the agarose mask. Reads the volume once.

        Where planes have outlines of their own, the yellow line is the one that most of them have; blue ones bound what
        is agarose in any plane, and in all.

        Parameters
        ----------
        agarose_mask
            True on agarose, as `normalize` takes it. None: that of the correction, else the one attached.
        correction
            What `fit` returned. None: what is attached to the volume.
        ax
            Axes to draw on. None: those of a new figure.
        figsize
            Size of a new figure in inches.

        Returns
        -------
        dict
            ``image``, ``colorbar``, ``outline``, and ``widest`` and ``narrowest`` where outlines differ.

        Raises
        ------
        InputError
            Without a mask, for a correction of other planes, for a volume with further dims, without matplotlib.
        """
        from xoctnorm.plot.mask import mask

        return mask(self._volume, agarose_mask, correction, ax, figsize)

    def thresholds(
        self,
        *,
        correction: xr.Dataset | None = None,
        ax: Axes | None = None,
        figsize: tuple[float, float] | None = None,
    ) -> dict[str, Any]:
        """Draw what becomes 0 and what is cut off in every plane, in units of the input. Reads nothing.

        With the reference's methods these are background and clip threshold, and Otsu's threshold of the mean
        projection. With the model of tissue they are the noise floor, and the linear intensity that becomes 1: the
        floor and the divisor over the gains of the plane.

        Parameters
        ----------
        correction, ax, figsize
            See `mask`.

        Returns
        -------
        dict
            ``sections``, ``floor``, ``ceiling``, and ``otsu`` and ``floor_error`` where they are known.

        Raises
        ------
        InputError
            Where no thresholds are known; see `mask`.
        """
        from xoctnorm.plot.thresholds import thresholds

        return thresholds(self._volume, correction, ax, figsize)

    def drift(
        self,
        *,
        correction: xr.Dataset | None = None,
        ax: Axes | None = None,
        figsize: tuple[float, float] | None = None,
    ) -> dict[str, Any]:
        """Draw the brightness of sections and the factors that correct it. Reads nothing.

        Of the reference's scaling: the metric of every section and its smoothed course, both over the median metric,
        the factor, and the clamps. Of the model of tissue: gains of sections with two standard errors, the factor of
        every plane, and flags of sections, but for those that all sections have. Of maps of histograms or quantiles:
        their factor, median and range over what they map.

        Parameters
        ----------
        correction, ax, figsize
            See `mask`. Metric, gains, flags and maps are in the correction only.

        Returns
        -------
        dict
            ``sections``, ``factor``, and what else was fitted: ``metric``, ``smoothed``, ``clamps``; ``gain``,
            ``flag …``; ``map``.

        Raises
        ------
        InputError
            Where no correction of drift is known; see `mask`.
        """
        from xoctnorm.plot.drift import drift

        return drift(self._volume, correction, ax, figsize)

    def zprofile(
        self,
        *,
        before: xr.DataArray | None = None,
        agarose_mask: Mask | None = None,
        correction: xr.Dataset | None = None,
        ax: Axes | None = None,
        figsize: tuple[float, float] | None = None,
    ) -> dict[str, Any]:
        """Draw the mean over tissue of every plane. Reads each volume once.

        Tissue is what is neither agarose nor 0 nor NaN. In units of the volume; with `before`, both relative to their
        mean over planes.

        Parameters
        ----------
        before
            The volume before the correction.
        agarose_mask, correction, ax, figsize
            See `mask`. Without a mask all voxels but 0 and NaN count.

        Returns
        -------
        dict
            ``sections``, ``mean``, and ``before`` and ``smoothed`` where they are known.

        Raises
        ------
        InputError
            For a `before` of other planes; see `mask`.
        """
        from xoctnorm.plot.zprofile import zprofile

        return zprofile(self._volume, before, agarose_mask, correction, ax, figsize)

    def histograms(
        self,
        *,
        before: xr.DataArray | None = None,
        agarose_mask: Mask | None = None,
        correction: xr.Dataset | None = None,
        ax: Axes | Sequence[Axes] | None = None,
        figsize: tuple[float, float] | None = None,
    ) -> dict[str, Any]:
        """Draw histograms of the tissue of sections, over their mean.

        Reads four planes of each section, of more than 64 sections those of evenly spread ones, and takes evenly spread
        values of them, 32768 of a section at most.

        Parameters
        ----------
        before
            The volume before the correction, in a panel of its own: `ax` is then a pair of axes.
        agarose_mask, correction, ax, figsize
            See `zprofile`.

        Returns
        -------
        dict
            ``sections``, ``reference`` and ``colorbar``; with `before` each of ``before …`` and ``after …``.

        Raises
        ------
        InputError
            Where no section has 100 voxels of tissue; for a `before` of other planes; see `mask`.
        """
        from xoctnorm.plot.histograms import histograms

        return histograms(self._volume, before, agarose_mask, correction, ax, figsize)

    def overview(
        self,
        *,
        before: xr.DataArray | None = None,
        z: int | None = None,
        y: int | None = None,
        x: int | None = None,
        ax: Sequence[Axes] | None = None,
        figsize: tuple[float, float] | None = None,
    ) -> dict[str, Any]:
        """Draw three orthogonal cuts. Reads nothing but these.

        All cuts of a volume have one grey scale, from the percentile 1 to 99.5 of what they show, and the scale of the
        coordinates; z is stretched or squeezed where a cut would be flatter than 0.3 or taller than 1.5 times its
        width. Dashed lines show where the other cuts are, triangles where sections meet.

        Parameters
        ----------
        before
            The volume before the correction, in a column of its own.
        z, y, x
            Number of the plane, row and column. None: through the middle of the tissue, as far as a mask tells it.
        ax
            Three axes, one below the other; with `before` six, row by row. None: those of a new figure.
        figsize
            Size of a new figure in inches.

        Returns
        -------
        dict
            Images ``plane``, ``along_x`` and ``along_y``, their ``… lines``, ``cuts``, ``scale_bar`` and ``colorbar``;
            with `before` each of ``before …`` and ``after …``.

        Raises
        ------
        InputError
            For a place outside of the volume; for a `before` of other planes; see `mask`.
        """
        from xoctnorm.plot.overview import overview

        return overview(self._volume, before, (z, y, x), ax, figsize)


class Plotting(Part):
    """Pictures."""

    @property
    def plot(self) -> Pictures:
        """Pictures of the volume and of what was fitted: see ``Pictures``."""
        return Pictures(self._volume)
