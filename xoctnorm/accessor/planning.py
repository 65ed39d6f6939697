"""What a call will take."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike

from xoctnorm.accessor.part import Part
from xoctnorm.agarose import Mask
from xoctnorm.settings import USE_GPU, Normalization

if TYPE_CHECKING:
    from xoctnorm.plan import Plan


class Planning(Part):
    """What a call will take."""

    def plan(
        self,
        *,
        agarose_mask: Mask | str | None = None,
        dtype: DTypeLike = np.float32,
        attach: bool = True,
        use_gpu: bool | str = USE_GPU,
        **settings: Any,
    ) -> Plan:
        """Say what `normalize` with the same arguments will take, before anything is read.

        Looks at metadata alone, and at masks that are given.

        Parameters
        ----------
        agarose_mask, dtype, attach, use_gpu
            See `normalize`.
        **settings
            All other arguments of `normalize`.

        Returns
        -------
        xoctnorm.plan.Plan
            Reads of the volume, chunks, tasks of dask, memory, bytes to read and to write, and advice where chunks are
            awkward. It prints as a table; the numbers are attributes.

        Raises
        ------
        InputError
            What `normalize` would raise, as far as metadata tell.
        TypeError
            For an argument that `normalize` does not have.

        Examples
        --------
        >>> from xoctnorm.phantom import make_phantom
        >>> volume = make_phantom(n_sections=6, planes_per_section=6)["volume"].chunk(z=6)
        >>> plan = volume.octnorm.plan(drift="scale")
        >>> plan.fit_reads, plan.reads, plan.chunks
        (2, {'first read': 1, 'background': 1, 'apply': 1}, 6)
        """
        unknown = settings.keys() - {field.name for field in fields(Normalization)}
        if unknown:
            raise TypeError(f"plan() has the arguments of normalize(), and {min(unknown)!r} is none of them")
        from xoctnorm.applying import Form
        from xoctnorm.plan import plan

        return plan(self._volume, Normalization(**settings), agarose_mask, Form(dtype, attach, use_gpu))
