"""What every correction is."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar

import xarray as xr

from xoctnorm.volume import PlanesT, Volume


class Correction:
    """A step of normalization: a frozen dataclass whose fields are its parameters.

    `fit` reads one volume and returns what it finds; `apply` appends what follows from that to the
    transfers of planes, which may be those of another volume and of several at once. `needs` names the
    fitted variables that `apply` uses, where they are the same with all parameters.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()

    @property
    def wants_section_means(self) -> bool:
        """Whether the first read has to take the mean projection of every section."""
        return False

    @property
    def wants_percentile(self) -> float | None:
        """Percentile of every plane, without zeros, that the correction before may find in a read of its own."""
        return None

    @property
    def keeps_order(self) -> bool:
        """Whether larger values of a plane stay larger, and such a percentile is found."""
        return False

    @property
    def wants_section_percentile(self) -> float | None:
        """Percentile of what every section has above 0, that the correction before may find in a read of its own.

        The first read then takes samples, which tell where it lies.
        """
        return None

    @property
    def finds_section_percentiles(self) -> bool:
        """Whether such a percentile is found, of planes as this correction leaves them."""
        return False

    @property
    def wants_tissue_means(self) -> bool:
        """Whether the correction before may find the mean over tissue of every plane in a read of its own."""
        return False

    @property
    def finds_tissue_means(self) -> bool:
        """Whether that is found, of planes as this correction leaves them."""
        return False

    def reads(self, n_sections: int) -> int:
        """Times that `fit` reads a volume with so many sections, after the first read, which all share.

        Planes that are read once more where a sample misled are not counted.
        """
        return 0

    @property
    def sampled_planes(self) -> int:
        """Single planes that `fit` may read besides."""
        return 0

    def needed(self) -> tuple[str, ...]:
        """Fitted variables that `apply` uses with these parameters."""
        return self.needs

    def problems(self) -> list[str]:
        """Parameters out of their range, a sentence each."""
        raise NotImplementedError

    def fit(self, volume: Volume) -> tuple[xr.Dataset, list[str]]:
        """Fitted numbers, and what the user should be warned of.

        What was decided on the way, and why, may be in the attribute `decisions`, for the record.
        """
        raise NotImplementedError

    def apply(self, planes: PlanesT, fitted: xr.Dataset) -> PlanesT:
        """Read the planes through this correction."""
        raise NotImplementedError

    def parameters(self) -> dict[str, Any]:
        """Fields and their values."""
        return asdict(self)  # type: ignore[call-overload,no-any-return]
