"""Modules that libraries import when they are imported themselves, though a program seldom uses them.

trio imports `ssl` and `idna`, protobuf its pure Python implementation beside the compiled one: a command would wait for
them, a daemon keep them, and use none. Here they are loaded when one of their attributes is looked up first. The
standard library's LazyLoader cannot do that: it loads a module with its second import.

A program calls `defer_imports` before it imports anything else: `logging` alone imports `traceback`.
"""

from __future__ import annotations

import sys
import threading
import typing
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

__all__ = ["DEFERRED_MODULES", "defer_imports"]

DEFERRED_MODULES = frozenset(
    {
        "calendar",
        "decimal",
        "google.protobuf.internal.python_message",
        "hashlib",
        "hmac",
        "hpack.huffman_table",
        "idna",
        "ipaddress",
        "locale",
        "msgspec.inspect",
        "shutil",
        "ssl",
        "tempfile",
        "tokenize",
        "traceback",
        "typing_extensions",
        # Before, `inspect` derives a class from one of the first, and `pathlib` takes functions of the second.
        *(["ast", "urllib.parse"] if sys.version_info >= (3, 13) else []),
    }
)
"""Modules whose import has no side effects. A package's parts load it: `import package.part` has it first."""
_FUNCTIONS = {"hpack.huffman_table": frozenset({"decode_huffman"})}
"""What others import by name and seldom call: they get a function that loads the module with its first call.

No peer of ours compresses headers so, and those of Jumpstarter 0.9 do.
"""
_ALSO_IN_TYPING = {"typing_extensions": frozenset({"NotRequired", "Required", "get_type_hints"})}
"""What msgspec takes from there is in `typing`, too, in every Python that we support: for that, nothing is loaded."""


def defer_imports() -> None:
    """From now on, in this process. Modules that are loaded already stay as they are."""
    if not any(isinstance(finder, _DeferringFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _DeferringFinder())


class _DeferringFinder:
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package = sys.modules.get(name.rpartition(".")[0])
        if isinstance(package, _DeferredModule):
            _load(package)
            if name in sys.modules:  # it imported this part itself
                return _LoadedAlready(sys.modules[name]).spec
        if name not in DEFERRED_MODULES:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            deferring: Any = _DeferringLoader(spec.loader)  # it has what imports ask a loader for
            spec.loader = deferring
        return spec


class _DeferringLoader:
    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _DeferredModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """It is executed by `_DeferredModule`."""
        assert isinstance(module, _DeferredModule)
        module.__dict__["__deferred__"] = _Deferred(self._loader)


class _LoadedAlready:
    """Takes the place of a module's loader while an import ends, which would execute the module once more."""

    def __init__(self, module: ModuleType) -> None:
        self._module, self._own = module, module.__spec__
        loader: Any = self  # it has what imports ask a loader for
        self.spec = module.__spec__ = ModuleSpec(module.__name__, loader)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._own


class _Deferred:
    """How a module is loaded, once. A thread that comes meanwhile waits, also for what is there already."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self.lock = threading.RLock()
        self._is_begun = False

    def load(self, module: ModuleType) -> None:
        with self.lock:
            if self._is_begun:  # it is executed now, in this thread, or has been
                return
            self._is_begun = True
            assert module.__spec__ is not None
            module.__spec__.loader = module.__loader__ = self._loader
            try:
                self._loader.exec_module(module)
            except BaseException:  # whatever it was, the next who needs the module tries again
                self._is_begun = False
                raise
            module.__class__ = ModuleType


def _later(deferred: _Deferred, module: ModuleType, name: str) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        deferred.load(module)
        return module.__dict__[name](*arguments)

    return call


def _load(module: ModuleType) -> None:
    """Once; without a second effect."""
    module.__dict__["__deferred__"].load(module)


class _DeferredModule(ModuleType):
    def __getattribute__(self, name: str) -> Any:
        """Not while another thread loads it: a function may need what the module defines behind it."""
        if name.startswith("__") or (deferred := self.__dict__.get("__deferred__")) is None:
            return super().__getattribute__(name)
        with deferred.lock:
            return ModuleType.__getattribute__(self, name)  # which it is by now, if another has loaded it

    def __getattr__(self, name: str) -> Any:
        """Only for what is not there yet: what the import machinery sets and looks up loads nothing."""
        deferred = self.__dict__.get("__deferred__")
        if deferred is not None and name != "__path__":  # which import statements look for
            if name in _ALSO_IN_TYPING.get(self.__name__, ()):
                return getattr(typing, name)
            if name in _FUNCTIONS.get(self.__name__, ()):
                return _later(deferred, self, name)
            deferred.load(self)
            if name in self.__dict__:
                return self.__dict__[name]
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
