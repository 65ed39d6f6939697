"""What one correction wants to know of a volume and another finds, in a read that it needs anyway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from xoctnorm.kernels.order_statistics import Ends

if TYPE_CHECKING:
    from xoctnorm.volume import Volume


@dataclass
class PlaneEnds:
    """Between which values a percentile of every plane lies: wanted by one correction, found in a read of another.

    Attributes
    ----------
    percentile
        The percentile, 0 to 100, without zeros.
    found
        For every plane, once they are found.
    n_transfers
        After how many transfers that was.
    """

    percentile: float
    found: list[Ends] | None = None
    n_transfers: int = 0

    def keep(self, found: list[Ends], volume: Volume) -> None:
        """Keep what was found in a volume."""
        self.found, self.n_transfers = found, len(volume.transfers)


@dataclass
class TissueMeans:
    """Mean over tissue of every plane: wanted by one correction, found in the read of the one before.

    Attributes
    ----------
    found
        Of every plane, once they are found, with its number of voxels of tissue; NaN is not known.
    n_transfers
        After how many transfers that is so.
    """

    found: list[tuple[float, int]] | None = None
    n_transfers: int = 0

    def keep(self, found: list[tuple[float, int]], n_transfers: int) -> None:
        """Keep what was found."""
        self.found, self.n_transfers = found, n_transfers


@dataclass
class SectionPercentiles:
    """A percentile of what every section has above 0: wanted by one correction, found in the read of the one before.

    Attributes
    ----------
    percentile
        The percentile, 0 to 100.
    found
        For every section, once they are found; None is not known, 0 is missing.
    """

    percentile: float
    found: list[float | None] | None = None
