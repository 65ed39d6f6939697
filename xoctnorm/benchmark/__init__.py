"""The open benchmark: phantoms with known truth, every method, and how far each is from the truth.

Run it with ``python -m xoctnorm.benchmark``; `docs/benchmark.md` tells what is measured.
"""
