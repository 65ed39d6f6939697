"""Tables with a row for every section, as planes need them."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm.agarose import SECTIONS


def by_row(fitted: xr.Dataset, dim: str, *names: str) -> tuple[xr.Variable, list[NDArray[np.float64]]]:
    """The row of every plane, and tables `(row, dim)` that hold the sections of all volumes one under the other."""
    further = [name for name in fitted[names[0]].dims if name not in (SECTIONS, dim)]
    tables = [fitted[name].transpose(*further, SECTIONS, dim) for name in names]
    shape = tables[0].shape
    first_row = np.arange(0, np.prod(shape[:-1], dtype=int), shape[-2])
    rows = xr.Variable(further, first_row.reshape(shape[:-2])) + fitted["section_index"].variable
    return rows, [table.to_numpy().reshape(-1, shape[-1]) for table in tables]
