"""``python -m xoctnorm`` is the command line."""

from xoctnorm.cli import main

main()
