"""Whether a volume is as it should be, and what it is."""

from __future__ import annotations

from collections.abc import Mapping

import xarray as xr

from xoctnorm.accessor.part import Part
from xoctnorm.agarose import Mask


class Quality(Part):
    """Whether a volume is as it should be, and what it is."""

    def qc(
        self,
        before: xr.DataArray | None = None,
        *,
        correction: xr.Dataset | None = None,
        limits: Mapping[str, tuple[float, float] | None] | None = None,
        agarose_mask: Mask | None = None,
        noise_floor: float | None = None,
        intensity: str = "auto",
        section: str | None = None,
    ) -> xr.Dataset:
        """Measure figures of merit and judge them against limits.

        A result is measured best beside the volume that it was made from: both on the same pixels, whose classes are
        told in `before`. Reads `before` twice and the volume once, or, without `before`, the volume twice; once more
        where intensity is not linear. A chunked volume is read a block of planes at a time.

        Parameters
        ----------
        before
            The volume that was corrected, with the same planes and pixels.
        correction
            What `fit` returned: its flags of sections are reported.
        limits
            Limits in place of the default ones, ``{"boundary_step": (0.02, 0.06)}``: from where on a figure is a
            warning, and an error; None takes its limits away. See ``xoctnorm.qc.LIMITS``.
        agarose_mask
            bool ``(y, x)``, or one per section or per plane; None takes the mask that is attached, else finds one by
            method ``"border"``.
        noise_floor
            Noise floor on the linear intensity of `before`, or of a volume that was not corrected; None takes what is
            attached. It is taken off before ratios are taken, and is what the signal to noise ratio is against.
        intensity
            What the values of `before`, or of a volume that was not corrected, are: ``"linear"``, ``"amplitude"``,
            ``"db"`` or ``"auto"``, as in `normalize`.
        section
            Name of the coordinate, dimension or index level that groups planes; None: the one that the record of the
            volume names, else ``"section"``.

        Returns
        -------
        xarray.Dataset
            Every figure is a variable, along ``z``, ``section_label``, ``tissue`` or a dim of its own, or a number.
            With `before`, those of intensity have ``stage`` as first dim: ``"before"``, ``"after"``. Attributes of a
            figure: ``long_name``, ``units``, ``comment`` (its definition), ``status`` of the volume (``"ok"``,
            ``"warning"``, ``"error"``, ``"unknown"``, or empty without limits), ``limits``, ``advice``, ``judged``
            (the number that was judged) and ``message``. Attributes of the whole: ``status``, ``verdict``, ``limits``
            (JSON), history and record. ``xoctnorm.qc.findings`` lists what is not as it should be.

        Raises
        ------
        InputError
            For a volume that is none, sizes that differ, limits of unknown figures, a mask that does not fit.

        Examples
        --------
        >>> from xoctnorm.phantom import make_phantom
        >>> volume = make_phantom(n_sections=6, planes_per_section=6)["volume"]
        >>> qc = volume.octnorm.normalize().octnorm.qc(volume)
        >>> qc.boundary_step.dims, qc.boundary_step.attrs["status"]
        (('stage', 'section_label'), 'ok')
        """
        from xoctnorm.provenance import section_name
        from xoctnorm.qc.quality import Asked, quality

        named = section_name(self._volume, {}) if section is None else section
        asked = Asked(limits, agarose_mask, noise_floor, intensity, named)
        return quality(self._volume, before, correction, asked)

    def __repr__(self) -> str:
        from xoctnorm.summary import summary_text

        return summary_text(self._volume)

    def _repr_html_(self) -> str:
        from xoctnorm.summary import summary_html

        return summary_html(self._volume)
