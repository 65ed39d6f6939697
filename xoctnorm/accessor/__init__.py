"""The accessor ``.octnorm``: documentation and delegation, in parts."""

from __future__ import annotations

import xarray as xr

from xoctnorm.accessor.normalization import WholeJob
from xoctnorm.accessor.planning import Planning
from xoctnorm.accessor.plotting import Plotting
from xoctnorm.accessor.quality import Quality
from xoctnorm.accessor.sections import SectionsAndMasks
from xoctnorm.accessor.steps import SingleSteps
from xoctnorm.accessor.writing import Writing


@xr.register_dataarray_accessor("octnorm")
class OctnormAccessor(SectionsAndMasks, WholeJob, SingleSteps, Planning, Plotting, Quality, Writing):
    """Intensity normalization of a serial-section OCT volume.

    A volume is a DataArray with dims ``z``, ``y`` and ``x`` in any order, of any real dtype but bool.
    Further dims (``channel``, ``time``) are independent volumes. Sections come from the coordinate
    ``section`` along ``z``, from a dimension, or from a level of a MultiIndex. NaN means "no data": it is
    left out of every statistic and stays NaN. Negative voxels are values like others. The input is never
    changed. A chunked volume is read a block of planes at a time to fit, and corrected lazily.

    Everything that is wrong with a call is reported in one `xoctnorm.InputError`. What a user should know of a
    result, for instance planes without enough agarose, comes as `xoctnorm.OctnormWarning` and is recorded.

    Examples
    --------
    >>> import xarray as xr
    >>> import xoctnorm
    >>> from xoctnorm.phantom import make_phantom
    >>> volume = make_phantom(n_sections=6, planes_per_section=6)["volume"]
    >>> normalized = volume.octnorm.normalize()
    >>> normalized.dims, normalized.scale_factor.dims
    (('z', 'y', 'x'), ('z',))
    """
