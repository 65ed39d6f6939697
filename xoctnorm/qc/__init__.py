"""Figures of merit: numbers that tell whether a volume is as it should be, with limits and what to try."""

from xoctnorm.qc.definitions import DEFINITIONS, FLAGS, Definition
from xoctnorm.qc.limits import LIMITS, Limit
from xoctnorm.qc.verdict import Finding, findings

__all__ = ["DEFINITIONS", "FLAGS", "LIMITS", "Definition", "Finding", "Limit", "findings"]
