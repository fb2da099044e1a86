"""Tests of several packages together: the wire, rules of the code, Jumpstarter 0.9, faults, benchmarks."""
