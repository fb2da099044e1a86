"""A controller or router as a process."""

from __future__ import annotations

import gc
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from jumpstarter_controller.process.certificates import own_certificate
from jumpstarter_controller.process.serving import serve, tls_of


async def test_what_is_there_when_it_serves_is_not_looked_through_for_garbage_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tls = tls_of(own_certificate(tmp_path, ["lab"]))
    there = [object()]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(serve, [], ["Serving"], tls=tls))
        await trio.testing.wait_all_tasks_blocked()
        assert capsys.readouterr().out == "Serving\n"
        assert all(one is not there for one in gc.get_objects())  # which leaves out what is frozen
        nursery.cancel_scope.cancel()
