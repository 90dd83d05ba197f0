"""Benchmarks: each stage beside plain rivals, in one run on one machine, as one JSON object."""
