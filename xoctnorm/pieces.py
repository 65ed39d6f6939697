"""How a volume is cut for writing: chunks of the file, and pieces of it that are written one after the other."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import product

_CHUNK_BYTES = 4 * 2**20
_CHUNK_PLANES = 16
_LARGEST_CHUNK_BYTES = 16 * 2**20  # parts of planes are kept as they come up to here
_LAYER_BYTES = 64 * 2**20  # what lies above one another in a layer of file chunks is in memory together
_PIECE_BYTES = 128 * 2**20

Region = dict[Hashable, slice]


def file_chunks(
    sizes: Mapping[Hashable, int], itemsize: int, incoming: Mapping[Hashable, Sequence[int]]
) -> dict[Hashable, int]:
    """Lengths of the chunks of a file: some planes deep, about 4 MiB; further dims have length 1.

    `incoming` are the chunks that the volume comes in. Where their length along z nearly fits it is taken over, so
    that no chunk is computed for two pieces. Parts of planes are kept up to 16 MiB, or cut, so that each is written on
    its own.
    """
    n_y, n_x = max(1, sizes["y"]), max(1, sizes["x"])
    plane, along_z = n_y * n_x * itemsize, incoming["z"]
    alone = written_alone(incoming, itemsize)
    most = max(1, along_z[0] if alone else min(sizes["z"], _LAYER_BYTES // plane))
    wanted = min(most, max(_CHUNK_PLANES, _CHUNK_BYTES // plane))
    nearby = range(max(1, wanted // 2), min(most, 2 * wanted) + 1)
    fitting = [n for n in nearby if along_z[0] % n == 0 or n % along_z[0] == 0]
    depth = min(fitting, key=lambda n: abs(n - wanted), default=wanted)
    if alone and depth * incoming["y"][0] * incoming["x"][0] * itemsize <= _LARGEST_CHUNK_BYTES:
        return {dim: {"z": depth, "y": incoming["y"][0], "x": incoming["x"][0]}.get(str(dim), 1) for dim in sizes}
    side = max(1, math.isqrt(max(1, _CHUNK_BYTES // (itemsize * depth))))
    # Equal parts, so that the last chunk is not a sliver.
    across = {
        dim: _part(incoming[dim][0], side) if alone and len(incoming[dim]) > 1 else -(-n // -(-n // side))
        for dim, n in (("y", n_y), ("x", n_x))
    }
    return {dim: {"z": depth, **across}.get(str(dim), 1) for dim in sizes}


def written_alone(incoming: Mapping[Hashable, Sequence[int]], itemsize: int) -> bool:
    """Whether chunks are parts of planes, of one shape and no crumbs: chunks of the file may be parts of them."""
    along_y, along_x = incoming["y"], incoming["x"]
    if len(along_y) == len(along_x) == 1:
        return False
    even = all(length == one[0] for one in (along_y, along_x) for length in one[:-1])
    return even and incoming["z"][0] * along_y[0] * along_x[0] * itemsize >= _CHUNK_BYTES // 4


def _part(length: int, side: int) -> int:
    """The whole part of a length that is nearest to a side."""
    parts = [length // n for n in range(1, length + 1) if length % n == 0]
    return min(parts, key=lambda part: abs(math.log(part / side)))


def piece_ends(n_z: int, depth: int, plane_bytes: int, along_z: Sequence[int], *, alone: bool = False) -> list[int]:
    """Where pieces along z end: after whole chunks of the file, and where possible after whole chunks that come in.

    Where each of these is written `alone`, a piece may be larger, since it is never in memory as a whole.
    """
    edges = [*range(depth, n_z, depth), n_z]
    incoming = {sum(along_z[:n]) for n in range(1, len(along_z) + 1)}
    ends = [0]
    while ends[-1] < n_z:
        ahead = [edge for edge in edges if edge > ends[-1]]
        near = [edge for edge in ahead if (edge - ends[-1]) * plane_bytes <= _PIECE_BYTES] or ahead[:1]
        whole = [edge for edge in near if edge in incoming]
        if alone and not whole:
            whole = [edge for edge in ahead if edge in incoming][:1]
        ends.append(max(whole or near))
    return ends[1:]


def pieces(sizes: Mapping[Hashable, int], ends: Sequence[int]) -> Iterator[Region]:
    """Every piece: a run of planes, at one place along each further dim."""
    further = [dim for dim in sizes if dim not in ("z", "y", "x")]
    for place in product(*(range(sizes[dim]) for dim in further)):
        at = {dim: slice(n, n + 1) for dim, n in zip(further, place, strict=True)}
        for start, stop in zip([0, *ends], ends, strict=False):
            yield {**at, "z": slice(start, stop)}
