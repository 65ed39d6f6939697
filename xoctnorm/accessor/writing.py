"""Writing volumes."""

from __future__ import annotations

import os
from pathlib import Path

import xarray as xr

from xoctnorm.accessor.part import Part


class Writing(Part):
    """Writing volumes, all or nothing."""

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

    def to_zarr(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path | str:
        """Write the volume, what is attached to it and its record to a Zarr store; an interrupted call goes on.

        The store, Zarr format 3, is read back with everything attached by `xoctnorm.open_volume`, and by
        ``xr.open_zarr(path)`` and ``xr.open_dataarray(path, engine="zarr")``. Names and attributes are those of
        `to_netcdf`.

        A piece of up to 128 MiB is computed and written at a time, once each, with the scheduler that dask has:
        threads, processes or a cluster that sees the path. Until all are written the store is in the sibling
        ``NAME.partial``, without the metadata that would let it open. Called again after an interruption, by a signal,
        an error or a full disk, it writes what is missing.

        Parameters
        ----------
        path
            Folder to be written, or an address that fsspec knows (``"s3://…"``). There nothing can be renamed: the
            store is at its place from the start, and its root metadata is written last.
        overwrite
            Whether a Zarr store that is there is replaced. It stays whole until the new one is; not at an address.

        Returns
        -------
        pathlib.Path or str
            The store; the address where one was given.

        Raises
        ------
        InputError
            All that is wrong with the call; among it that ``NAME.partial`` is of another volume or of another call,
            with what differs. Compared are name, dims, shape, dtype, attributes, coordinates, the record but for
            times, the version of xoctnorm, and the values of the first plane.
        OSError
            Writing failed, for instance because the disk is full. What is written so far is kept to go on from.

        Examples
        --------
        >>> import tempfile, pathlib
        >>> import xarray as xr
        >>> import xoctnorm
        >>> from xoctnorm.phantom import make_phantom
        >>> volume = make_phantom(n_sections=6, planes_per_section=6)["volume"].chunk(z=5)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = volume.octnorm.normalize().octnorm.to_zarr(pathlib.Path(folder) / "brain.zarr")
        ...     back = xr.open_dataarray(path, engine="zarr").load()
        >>> back.dims, back.scale_factor.dims, back.agarose_mask.dtype
        (('z', 'y', 'x'), ('z',), dtype('bool'))
        """
        from xoctnorm.zarr_volume import write_zarr

        return write_zarr(self._volume, path, overwrite=overwrite)

    def to_ome_zarr(
        self,
        path: str | os.PathLike[str],
        *,
        version: str = "0.5",
        levels: int | None = None,
        overwrite: bool = False,
    ) -> Path | str:
        """Write the volume as OME-Zarr, a pyramid that viewers open; an interrupted call goes on, as with `to_zarr`.

        Every level has half the pixels along y and x of the one before: means of 2 x 2 pixels, without NaN. z is
        kept, so that every level has the same planes and sections, and what is fitted on a coarse level applies to the
        finest. Axes, scale and translation come from the coordinates and their units. Coordinates, what was fitted and
        the record are in the group ``xoctnorm`` beside the levels, which ``xr.open_zarr(path, group="xoctnorm")``
        opens; `xoctnorm.open_volume` gives them back with the volume.

        Parameters
        ----------
        path
            Folder to be written, or an address, as with `to_zarr`.
        version
            Of OME-Zarr: ``"0.5"`` (Zarr format 3) or ``"0.4"`` (Zarr format 2).
        levels
            Number of levels, at most as many as halving gives; None: until y and x have no more than 256 pixels.
        overwrite
            Whether a Zarr store that is there is replaced.

        Returns
        -------
        pathlib.Path or str
            The store; the address where one was given.

        Raises
        ------
        InputError, OSError
            See `to_zarr`; also for dims that OME-Zarr does not have.

        Warns
        -----
        OctnormWarning
            Where coordinates are not evenly spaced, which OME-Zarr cannot say.

        Examples
        --------
        >>> import tempfile, pathlib
        >>> import xoctnorm
        >>> from xoctnorm.phantom import make_phantom
        >>> volume = make_phantom(shape=(64, 80), n_sections=3, planes_per_section=4)["volume"]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = volume.octnorm.to_ome_zarr(pathlib.Path(folder) / "brain.ome.zarr", levels=2)
        ...     coarse = xoctnorm.open_volume(path, level=1).load()
        >>> coarse.shape, coarse.section.values.tolist()
        ((12, 32, 40), [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])
        """
        from xoctnorm.ome_zarr import write_ome_zarr

        return write_ome_zarr(self._volume, path, version=version, levels=levels, overwrite=overwrite)

    def report(
        self,
        path: str | os.PathLike[str],
        *,
        before: xr.DataArray | None = None,
        correction: xr.Dataset | None = None,
        qc: xr.Dataset | None = None,
        title: str | None = None,
    ) -> Path:
        """Write a report on the volume: one HTML file with all that is needed to see whether it is right.

        It has the verdict of `qc`, warnings with what to try, planes to step through, before and after beside each
        other, pictures, tables, the record, and how to make the result again. It is below 5 MB, needs no network, and
        works by keyboard and on a phone, on bright and on dark ground. Text of attributes and labels is escaped. Needs
        the extra ``report``.

        Reads each volume once, a block of planes at a time, and once or twice more where `qc` has to be computed.
        Up to 128 planes are shown, of more than 128 sections one of each, at most 200; planes are averaged to at most
        480 pixels across.

        Parameters
        ----------
        path
            File to be written, ending in ``.html``; an existing file is replaced, once the new one is whole.
        before
            The volume that was corrected, with the same planes.
        correction
            What `fit` returned. With it come the tables of sections: gains with errors, flags, metric, maps.
        qc
            What `qc` returned, to be shown instead of computed, for instance with limits of your own.
        title
            Heading of the report. None: the name of the volume.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        InputError
            For a path without folder or suffix, volumes and corrections that do not fit, missing packages.
        OSError
            Writing failed. Nothing is left behind.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> import matplotlib
        >>> matplotlib.use("agg")
        >>> from xoctnorm.phantom import make_phantom
        >>> volume = make_phantom(shape=(64, 80), n_sections=6, planes_per_section=5, seed=1)["volume"]
        >>> result = volume.octnorm.normalize()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = result.octnorm.report(pathlib.Path(folder) / "qc.html", before=volume)
        ...     path.stat().st_size < 5_000_000
        True
        """
        from xoctnorm.report.writing import write_report

        return write_report(self._volume, path, before, correction, qc, title)
