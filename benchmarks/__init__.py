"""Benchmarks: each measure beside its floor, run in turn in one process."""
