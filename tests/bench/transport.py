"""The rows against grpcio's asyncio API; `rpc.py` runs the servers and clients and prints JSON lines."""

from __future__ import annotations

from tests.bench.result import Result
from tests.bench.upstream import Bench


def unary(bench: Bench, repeats: int) -> Result:
    raise NotImplementedError


def stream(bench: Bench, repeats: int) -> Result:
    raise NotImplementedError
