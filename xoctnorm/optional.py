"""Packages that only some formats, plots and reports need."""

from __future__ import annotations

from importlib import import_module


def missing(package: str, purpose: str, *, extra: str = "formats") -> list[str]:
    """The problem that a package is not installed, where that is so."""
    try:
        import_module(package)
    except ImportError:
        return [f"{purpose} needs {package}, which is not installed: pip install 'xoctnorm[{extra}]'"]
    return []
