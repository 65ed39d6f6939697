"""
A chunked pipeline to OME-Zarr
==============================

How a volume that is larger than memory goes from a raw store to a normalized pyramid: it is opened lazily, fitted
chunk by chunk, applied while the result is written, and opened again. The one here is small and made up; yours takes
the same calls.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import xoctnorm
from xoctnorm.phantom import make_phantom

with tempfile.TemporaryDirectory() as folder:
    raw, normalized = Path(folder) / "raw.ome.zarr", Path(folder) / "normalized.ome.zarr"
    phantom = make_phantom(shape=(192, 256), n_sections=6, planes_per_section=8)
    phantom["volume"].chunk(z=8).octnorm.to_ome_zarr(raw)  # a microscope, or a converter, would have written it

    volume = xoctnorm.open_volume(raw).chunk(z=8)  # left alone, chunks are of about 64 MiB
    print(f"{dict(volume.sizes)} in {volume.data.npartitions} chunks; nothing is read yet\n")
    print(volume.octnorm.plan(flatten_depth=True), "\n")

    correction = volume.octnorm.fit(flatten_depth=True)  # reads chunk by chunk
    correction.to_netcdf(Path(folder) / "correction.nc")  # small; a later run can start from it
    print(f"the correction takes {correction.nbytes / 1e3:.0f} kB, the volume {volume.nbytes / 1e6:.0f} MB\n")

    result = volume.octnorm.apply(xr.load_dataset(Path(folder) / "correction.nc"))  # lazy
    result.octnorm.to_ome_zarr(normalized, levels=3)  # computed as it is written; the same call goes on if interrupted

    again = xoctnorm.open_volume(normalized)
    assert np.array_equal(again, phantom["volume"].octnorm.apply(correction))  # what memory gives, to the bit
    assert again.scale_factor.equals(result.scale_factor)  # and what was fitted comes back
    print(again.attrs["history"].splitlines()[0][:100], "…")

    levels = [xoctnorm.open_volume(normalized, level=level).isel(z=20).load() for level in range(3)]
    before = volume.isel(z=20).load()

fig, axes = plt.subplots(1, 4, figsize=(9, 2.3), layout="constrained")
titles = ["raw", *(f"level {level}: {plane.sizes['y']} × {plane.sizes['x']}" for level, plane in enumerate(levels))]
for panel, plane, title in zip(axes, [before, *levels], titles, strict=True):
    panel.imshow(plane, cmap="gray", vmin=0, vmax=np.nanquantile(plane, 0.995), interpolation="nearest")
    panel.set_title(title, fontsize=9)
    panel.set_axis_off()
plt.show()
