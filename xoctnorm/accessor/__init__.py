"""The accessor ``.octnorm``: documentation and delegation, in parts."""

from __future__ import annotations

import os
from pathlib import Path

import xarray as xr

from xoctnorm.accessor.normalization import WholeJob
from xoctnorm.accessor.sections import SectionsAndMasks
from xoctnorm.accessor.steps import SingleSteps


@xr.register_dataarray_accessor("octnorm")
class OctnormAccessor(SectionsAndMasks, WholeJob, SingleSteps):
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
    >>> volume = make_phantom(shape=(64, 80), n_sections=6, planes_per_section=5, seed=1)["volume"]
    >>> normalized = volume.octnorm.normalize()
    >>> normalized.dims, normalized.scale_factor.dims
    (('z', 'y', 'x'), ('z',))
    """

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
