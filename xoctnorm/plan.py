"""What normalizing a volume will take, told before anything is read."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from xoctnorm.agarose import Mask
from xoctnorm.applying import Form
from xoctnorm.blocks import BLOCK_BYTES, LARGEST_CHUNK_BYTES
from xoctnorm.corrections import Correction, FoundMask
from xoctnorm.fitting import Call, checked, reads_of_fit
from xoctnorm.gpu import loops_on_host
from xoctnorm.sections import plane_dims
from xoctnorm.settings import Normalization
from xoctnorm.threads import thread_count
from xoctnorm.volume import volume_dims
from xoctnorm.whole_job import whole_job

_PACKAGES_BYTES = 450 * 10**6  # what Python and the packages take
_CHUNKS_PER_WORKER = 8
_BYTES_PER_PIXEL = 32  # running sums and mean projections
_MANY_PARTS = 4  # chunks of a plane


@dataclass(frozen=True, repr=False)
class Plan:
    """What normalizing a volume will take.

    Attributes
    ----------
    shape
        Sizes by dim.
    dtype
        Of the volume.
    sections
        Number of sections.
    reads
        What reads the volume and how many times: the first read, corrections that read, and applying.
    fit_reads, apply_reads
        The sums of those.
    sampled_planes
        Single planes that fitting may read besides, at most.
    chunks
        Number of chunks of dask; 0 where the volume is not chunked.
    chunk_shape, chunk_bytes
        Sizes by dim, and bytes, of the largest chunk; of the volume where it is not chunked.
    fit_tasks, apply_tasks
        Tasks of dask, about.
    peak_memory
        Most bytes that are in memory at a time, estimated, all threads of this process together.
    bytes_read, bytes_written
        Bytes to be read in all, and to be written, before compression.
    advice
        What is awkward, and what to do about it.
    """

    shape: dict[str, int]
    dtype: str
    sections: int
    reads: dict[str, int]
    fit_reads: int
    apply_reads: int
    sampled_planes: int
    chunks: int
    chunk_shape: dict[str, int]
    chunk_bytes: int
    fit_tasks: int
    apply_tasks: int
    peak_memory: int
    bytes_read: int
    bytes_written: int
    advice: tuple[str, ...]

    def rows(self) -> Iterator[tuple[str, str]]:
        """What the plan says, with a heading for each."""
        volume = f"{sizes_text(self.shape)}, {self.dtype}, {_count(self.sections, 'section')}"
        yield "volume", volume
        if self.chunks:
            chunk = f"{self.chunks:,}, up to {sizes_text(self.chunk_shape)}, {in_bytes(self.chunk_bytes)}"
        else:
            chunk = "none: the volume is processed in memory"
        yield "chunks", chunk
        times = ", ".join(name if times == 1 else f"{name} ({times})" for name, times in self.reads.items())
        yield "reads", f"{_count(self.fit_reads, 'time')} to fit, {self.apply_reads} to apply: {times}"
        if self.sampled_planes:
            yield "", f"and up to {self.sampled_planes} single planes"
        if self.chunks:
            yield "tasks", f"about {self.fit_tasks:,} to fit, {self.apply_tasks:,} to apply"
        yield "memory", f"up to about {in_bytes(self.peak_memory)}"
        yield "traffic", f"{in_bytes(self.bytes_read)} to read, {in_bytes(self.bytes_written)} to write"
        for number, advice in enumerate(self.advice):
            yield "" if number else "advice", advice

    def __repr__(self) -> str:
        return "\n".join(["<xoctnorm.Plan>", *(f"{name:8} {text}" for name, text in self.rows())])

    def _repr_html_(self) -> str:
        rows = (
            f"<tr><th style='text-align: left'>{html.escape(name)}</th>"
            f"<td style='text-align: left'>{html.escape(text)}</td></tr>"
            for name, text in self.rows()
        )
        return f"<table>{''.join(rows)}</table>"


def plan(da: xr.DataArray, settings: Normalization, agarose_mask: Mask | str | None, form: Form) -> Plan:
    """Say what normalizing the volume will take; looks at metadata alone, and at masks that are given."""
    job = whole_job(da, settings, agarose_mask, form)
    given = {"agarose_mask": job.agarose_mask, "noise_floor": job.noise_mask}
    sections, masks = checked(da, Call("normalize", {}), settings.section, given, job.problems)
    n_sections = len(sections)
    sampled = sum(c.sampled_planes for c in job.corrections)
    chunks = {dim: max(lengths) for dim, lengths in da.variable.chunksizes.items()} or dict(da.sizes)
    n_chunks = math.prod(len(lengths) for lengths in da.chunks) if da.chunks is not None else 0
    tasks = len(da.variable.__dask_graph__() or ())
    of_fit = reads_of_fit(job.corrections, n_sections, on_host=loops_on_host(da.variable, form.use_gpu))
    fit_reads = sum(of_fit.values())
    pixels = da.sizes["y"] * da.sizes["x"]
    n_planes = da.size // pixels
    mask_planes = _mask_planes(job.corrections[0], masks.get("agarose_mask"))
    parameters = sum(len(c.needed()) for c in job.corrections)
    along_z = math.prod(len(da.variable.chunksizes[dim]) for dim in plane_dims(da, settings.section)) if n_chunks else 0
    result_bytes = da.size * np.dtype(form.dtype).itemsize
    return Plan(
        shape={str(dim): size for dim, size in da.sizes.items()},
        dtype=str(da.dtype),
        sections=n_sections,
        reads={**of_fit, "apply": 1},
        fit_reads=fit_reads,
        apply_reads=1,
        sampled_planes=min(sampled, n_planes),
        chunks=n_chunks,
        chunk_shape={str(dim): size for dim, size in chunks.items()},
        chunk_bytes=math.prod(chunks.values()) * da.dtype.itemsize,
        fit_tasks=fit_reads * tasks,
        apply_tasks=tasks + n_chunks + parameters * along_z,
        peak_memory=_PACKAGES_BYTES
        + (_in_chunks(da, chunks) if n_chunks else da.nbytes + result_bytes)
        + _BYTES_PER_PIXEL * pixels
        + (n_sections * pixels if mask_planes else 0),
        bytes_read=(fit_reads + 1) * da.nbytes + min(sampled, n_planes) * pixels * da.dtype.itemsize,
        bytes_written=result_bytes + (pixels * (n_planes if mask_planes else 1) if form.attach else 0),
        advice=tuple(_advice(da, settings.section, chunks)),
    )


def _in_chunks(da: xr.DataArray, chunks: Mapping[Any, int]) -> int:
    """Bytes of what workers hold, in float32 at least: they read whole planes, some chunks together."""
    return workers() * _CHUNKS_PER_WORKER * math.prod(chunks.values()) * max(4, da.dtype.itemsize)


def workers() -> int:
    """Threads in which dask computes chunks in this process."""
    import dask
    from dask.system import CPU_COUNT

    number = dask.config.get("num_workers", None)
    return max(thread_count(), CPU_COUNT if number is None else int(number))


def _mask_planes(mask: Correction, given: xr.DataArray | None) -> bool:
    """Whether the agarose mask differs from plane to plane."""
    return given.ndim > 2 if given is not None else isinstance(mask, FoundMask) and mask.per_section


def _advice(da: xr.DataArray, section: str, chunks: Mapping[Any, int]) -> Iterator[str]:
    """What is awkward about the chunks, with a remedy."""
    plane_bytes = da.sizes["y"] * da.sizes["x"] * da.dtype.itemsize
    fitting = max(1, min(da.sizes["z"], BLOCK_BYTES // plane_bytes))
    remedy = f"open it with chunks={{'z': {fitting}, 'y': -1, 'x': -1}}, or by xoctnorm.open_volume"
    if da.chunks is None:
        if da.nbytes > LARGEST_CHUNK_BYTES:
            yield f"the volume is not chunked, so that it and the result are in memory as a whole: {remedy}"
        return
    parts = math.prod(len(da.variable.chunksizes[dim]) for dim in ("y", "x"))
    chunk_bytes = math.prod(chunks.values()) * da.dtype.itemsize
    if parts >= _MANY_PARTS:
        yield f"planes are split in {parts} chunks, and whole planes are read: {remedy}"
    if chunk_bytes > LARGEST_CHUNK_BYTES:
        yield f"a chunk is {in_bytes(chunk_bytes)}, and several are in memory at a time: {remedy}"
    elif chunk_bytes > 2 * BLOCK_BYTES and chunks["z"] > fitting:
        yield f"chunks are {chunks['z']} planes deep, which takes memory and saves no time: {remedy}"
    elif parts < _MANY_PARTS and math.prod(chunks[str(dim)] for dim in volume_dims(da, section)[:-2]) > chunks["z"]:
        yield "chunks go over several independent volumes, which are read one by one: chunk further dims by 1"


def sizes_text(sizes: Mapping[Any, int]) -> str:
    """Sizes by dim, for people."""
    return " × ".join(f"{dim} {size}" for dim, size in sizes.items())


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def in_bytes(number: float) -> str:
    """Bytes for people: 12.3 GB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 999.5:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"
