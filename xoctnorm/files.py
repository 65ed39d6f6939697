"""What reading and writing share: where a volume came from, and having files safe on the disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import xarray as xr

from xoctnorm.cf import record
from xoctnorm.provenance import zarr_stores


def sources(volume: xr.DataArray) -> Iterator[str]:
    """Files that a volume was read from, as far as its encoding, its record and its graph tell."""
    yield from zarr_stores(volume)
    nodes: list[Any] = [record(volume.attrs), volume.encoding, *(c.encoding for c in volume.coords.values())]
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict):
            if isinstance(node.get("source"), str):
                yield node["source"]
            nodes += node.values()
        elif isinstance(node, list):
            nodes += node


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk and not only in a cache."""
    if path.is_dir() and os.name == "nt":  # Windows opens no folders.
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
