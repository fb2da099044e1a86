"""purerpc's sans-IO core, without purerpc's I/O layer.

`import purerpc.grpclib` runs `purerpc/__init__.py`, which imports anyio, ssl and more: some 40 ms for a user who
waits for the prompt, for code that is never used here. `grpclib` imports only its own siblings, so it is loaded
as a package of its own, under a private name.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

__all__ = ["GRPCConfiguration", "GRPCConnection"]

_ALIAS = "_jumpstarter_grpclib"


def _load() -> None:
    found = importlib.util.find_spec("purerpc")
    if found is None or not found.submodule_search_locations:
        raise ImportError("purerpc is not installed; install jumpstarter-sbc again")
    folder = Path(found.submodule_search_locations[0]) / "grpclib"
    spec = importlib.util.spec_from_file_location(
        _ALIAS, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder} is not purerpc's sans-IO core; install purerpc 0.8")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_ALIAS] = module
    spec.loader.exec_module(module)


if _ALIAS not in sys.modules:
    _load()

GRPCConfiguration: Any = importlib.import_module(f"{_ALIAS}.config").GRPCConfiguration
GRPCConnection: Any = importlib.import_module(f"{_ALIAS}.connection").GRPCConnection
