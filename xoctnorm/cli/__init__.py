"""The command line: ``xoctnorm``, or ``python -m xoctnorm``."""

from __future__ import annotations


def main() -> None:
    """Run the command line; exits with 0 (fine), 1 (it failed), 2 (wrong usage) or 130 (interrupted)."""
    from xoctnorm.cli.commands import app

    app(prog_name="xoctnorm")
