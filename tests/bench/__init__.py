"""Measurements against Jumpstarter 0.9.0, grpcio and our unix socket: `python -m tests.bench`; no tests."""
