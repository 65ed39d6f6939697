"""What the parts of the accessor share."""

from __future__ import annotations

import xarray as xr


class Part:
    """A part of the accessor: it holds the volume and nothing else."""

    def __init__(self, volume: xr.DataArray) -> None:
        self._volume = volume
