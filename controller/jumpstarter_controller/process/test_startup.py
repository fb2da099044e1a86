"""A signal that comes before a controller serves, whenever that is, ends it as one that comes later does."""

from __future__ import annotations

import os
import signal
import socket
import threading
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.process import open_daemon

from jumpstarter_controller import app
from jumpstarter_controller.process.certificates import own_certificate
from jumpstarter_controller.process.data_folder import DataFolder
from jumpstarter_controller.process.serving import serve, tls_of
from jumpstarter_controller.process.startup import Startup
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.replicas.open_store import Shared
from jumpstarter_controller.replicas.replica import Replica

WAIT = 30.0


async def test_a_signal_between_start_and_serving_is_not_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tls = tls_of(own_certificate(tmp_path, ["lab"]))
    with open_daemon() as daemon:
        startup = Startup(daemon)
        assert await startup.run(trio.lowlevel.checkpoint) is None
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)
        with trio.fail_after(WAIT):
            assert await serve([], ["Serving"], tls=tls, startup=startup) is ExitCode.OK
    assert capsys.readouterr().out == "Serving\n"


async def test_a_controller_that_is_told_to_end_while_it_starts_ends_cleanly(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def made(*words: Any, **how: Any) -> Reconciler:
        os.kill(os.getpid(), signal.SIGTERM)
        return Reconciler(*words, **how)

    monkeypatch.setattr(app, "Reconciler", made)
    with trio.fail_after(WAIT):
        assert await app.run(app.ControllerSettings(tmp_path / "data", "127.0.0.1:0")) is ExitCode.OK
    assert "Listening on 127.0.0.1:" in capsys.readouterr().out
    assert "leases cannot connect to their boards; add --with-router or --router" in caplog.text


async def test_a_sighup_before_there_is_anything_to_read_again_changes_nothing() -> None:
    with open_daemon() as daemon:
        startup = Startup(daemon)
        for number, code in ((signal.SIGINT, ExitCode.INTERRUPTED), (signal.SIGTERM, ExitCode.OK)):
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), number)
            with trio.fail_after(WAIT):
                assert await startup.run(trio.sleep_forever) is code


async def test_a_start_that_looks_up_a_name_can_be_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answer = threading.Event(), threading.Event()

    def look_up(*_words: Any, **_how: Any) -> Any:
        asked.set()
        answer.wait(WAIT)
        raise socket.gaierror("nobody")

    folder = DataFolder(tmp_path / "data")
    folder.prepare()
    shared = Shared(cast("Any", None), cast("Any", None), cast("Any", None), "https://api.invalid:443")
    replica = Replica(shared, "me")
    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", look_up)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(
                    app._registry, app.ControllerSettings(folder.path, ":0"), folder, shared, replica
                )
                assert await trio.to_thread.run_sync(asked.wait, WAIT)
                with trio.fail_after(WAIT / 2):  # shorter than the look-up
                    nursery.cancel_scope.cancel()
                    await trio.lowlevel.checkpoint_if_cancelled()
        finally:
            assert not answer.is_set()
            answer.set()
