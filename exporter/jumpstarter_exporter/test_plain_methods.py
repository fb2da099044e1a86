"""A driver whose author has left out `async`, as drivers of Jumpstarter 0.9 have none there, blocks only itself."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
import trio
from jumpstarter_proto.rpc import RpcError

from jumpstarter_exporter import isolation
from jumpstarter_exporter.conftest import Serve
from jumpstarter_exporter.devices import opening
from jumpstarter_exporter.driver import Driver, export


@dataclass(kw_only=True, eq=False)
class Good(Driver):
    client: ClassVar[str] = "example.Client"

    @export
    def use(self) -> str:
        return "well"


@dataclass(kw_only=True, eq=False)
class Plain(Good):
    blocks_in: str
    go_on: threading.Event = field(default_factory=threading.Event)
    heard: list[str] = field(default_factory=list)

    def open(self) -> None:  # type: ignore[override]
        self._say("open")

    def close(self) -> None:  # type: ignore[override]
        self._say("close")

    def _say(self, what: str) -> None:
        self.heard.append(what)
        if self.blocks_in == what:
            self.go_on.wait()


@pytest.mark.parametrize("where", ["", "open", "close"])
async def test_open_and_close_that_block_stop_no_other_device(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(isolation, "GRACE_SECONDS", 0.02)
    monkeypatch.setattr(opening, "OPEN_SECONDS", 0.05)
    monkeypatch.setattr(opening, "CLOSE_SECONDS", 0.05)
    bad = Plain(blocks_in=where)
    try:
        with trio.fail_after(20):
            async with serve(Good(children={"bad": bad, "good": Good()})) as user:
                with suppress(RpcError):
                    await user.call("bad", "use")
                assert await user.call("good", "use") == "well"
    finally:
        bad.go_on.set()
    while bad.heard != ["open", "close"]:
        await trio.sleep(0.01)
