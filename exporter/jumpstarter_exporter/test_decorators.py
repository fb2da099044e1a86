"""What a class offers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from jumpstarter_proto.errors import JumpstarterUsageError

from jumpstarter_exporter.decorators import ExportKind, export, export_stream, exported


class Base:
    @export
    def plain(self) -> None: ...
    @export
    async def asynchronous(self) -> None: ...
    @export
    def generator(self) -> Iterator[int]:
        yield 1

    @export
    async def async_generator(self) -> AsyncIterator[int]:
        yield 1

    @export_stream
    @asynccontextmanager
    async def connect(self) -> AsyncIterator[None]:
        yield None

    @export(name="close")
    def force_close(self) -> None: ...
    def internal(self) -> None: ...


def test_kinds() -> None:
    assert {name: (method.kind, method.is_async) for name, method in exported(Base).items()} == {
        "plain": (ExportKind.CALL, False),
        "asynchronous": (ExportKind.CALL, True),
        "generator": (ExportKind.STREAMING, False),
        "async_generator": (ExportKind.STREAMING, True),
        "connect": (ExportKind.STREAM, True),
        "close": (ExportKind.CALL, False),
    }


def test_a_renamed_method_is_found_under_its_new_name_only() -> None:
    assert exported(Base)["close"].attribute == "force_close"
    assert "force_close" not in exported(Base)


def test_an_override_without_a_mark_is_not_offered() -> None:
    class Quiet(Base):
        def plain(self) -> None: ...

    assert "plain" not in exported(Quiet)
    assert "plain" in exported(Base)


def test_two_methods_of_one_name_are_a_developers_error() -> None:
    class Twice(Base):
        @export(name="plain")
        def other(self) -> None: ...

    with pytest.raises(JumpstarterUsageError, match="plain"):
        exported(Twice)
