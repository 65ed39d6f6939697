"""Figures of merit as a command tells them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import xarray as xr

from xoctnorm.cli.reporting import Outcome
from xoctnorm.qc import findings
from xoctnorm.qc.limits import ERROR
from xoctnorm.summary import table_text

BEYOND = 3  # exit code where a figure is an error


def about_quality(path: str, qc: xr.Dataset) -> Outcome:
    """Say what is not as it should be, and what to try."""
    found = findings(qc)
    facts = {
        "input": path,
        "status": qc.attrs["status"],
        "verdict": qc.attrs["verdict"],
        "findings": [asdict(finding) for finding in found],
        "figures": {str(name): _facts(figure) for name, figure in qc.data_vars.items()},
    }
    rows = [("verdict", qc.attrs["verdict"])]
    for finding in found:
        rows += [(finding.status, finding.message), ("", f"try: {finding.advice}")]
    return Outcome(facts, table_text(rows), BEYOND if qc.attrs["status"] == ERROR else 0)


def _facts(figure: xr.DataArray) -> dict[str, Any]:
    """Numbers of a figure, its units and its status."""
    told = {name: figure.attrs[name] for name in ("units", "status", "limits", "judged") if name in figure.attrs}
    return {"dims": list(figure.dims), "values": figure.to_numpy().tolist(), **told}
