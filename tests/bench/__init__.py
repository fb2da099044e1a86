"""Measurements against Jumpstarter 0.9.0 and grpcio: `python -m tests.bench`, not part of the test suite."""
