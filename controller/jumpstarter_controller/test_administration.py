"""Who administrates a lab reaches its controller, though it has just been started or is about to end."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from jumpstarter_proto.rpc import RpcError, StatusCode, unix_listener

from jumpstarter_controller import app
from jumpstarter_controller.app import administrated, alone
from jumpstarter_controller.process.data_folder import Addresses, DataError, DataFolder, KubernetesLab
from jumpstarter_controller.replicas.open_store import open_store
from jumpstarter_controller.store import SqliteStore


def lab(path: Path) -> DataFolder:
    """A folder of which a controller has run."""
    folder = DataFolder(path / "lab")
    folder.prepare()
    SqliteStore(folder.database).close()
    folder.remember(Addresses("lab:8082"))
    return folder


def test_beside_a_lab_in_kubernetes_no_other_one_is_begun(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    folder.remember(Addresses("lab:8082", kubernetes=KubernetesLab("lab")))
    with pytest.raises(DataError, match=r"are in Kubernetes; start with --store kubernetes, or get them"):
        open_store(folder, None)
    assert not folder.database.exists()
    SqliteStore(folder.database).close()  # as an import leaves it that could not tell the cluster
    store, _ = open_store(folder, None)
    store.close()


async def test_a_controller_that_has_no_socket_yet_is_waited_for(tmp_path: Path) -> None:
    folder, reached = lab(tmp_path), trio.Event()

    async def administrate() -> None:
        async with administrated(folder.path) as stream, stream:  # whoever gets it closes it
            reached.set()

    with trio.fail_after(10), folder.locked() as ours:
        assert ours
        async with trio.open_nursery() as nursery:
            nursery.start_soon(administrate)
            await trio.sleep(0.1)  # enough for a first try; without one the test only shows less
            async with unix_listener(folder.socket):
                await reached.wait()


async def test_where_a_controller_ends_the_command_goes_on_without_it(tmp_path: Path) -> None:
    folder, reached = lab(tmp_path), trio.Event()

    async def administrate() -> None:
        async with administrated(folder.path):
            reached.set()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            with folder.locked():
                nursery.start_soon(administrate)
                await trio.sleep(0.1)
            await reached.wait()


async def test_a_controller_that_does_not_answer_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = lab(tmp_path)
    monkeypatch.setattr(app, "SOCKET_START_SECONDS", 0.1)
    with folder.locked(), trio.fail_after(10), pytest.raises(RpcError, match="does not answer on") as raised:
        async with administrated(folder.path):
            pass
    assert raised.value.code is StatusCode.UNAVAILABLE


async def test_a_controller_waits_for_a_command_that_has_the_folder(tmp_path: Path) -> None:
    folder, begun, locked = lab(tmp_path), trio.Event(), trio.Event()

    async def begin() -> None:
        begun.set()
        async with alone(folder):
            with folder.locked() as twice:
                assert not twice
            locked.set()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            async with administrated(folder.path) as stream, stream:
                nursery.start_soon(begin)
                await begun.wait()
                await trio.sleep(0.1)  # enough for a first try
                assert not locked.is_set()
            await locked.wait()


async def test_a_controller_does_not_call_a_long_command_another_controller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = lab(tmp_path)
    monkeypatch.setattr(app, "SOCKET_START_SECONDS", 0.1)
    with folder.locked(), trio.fail_after(10), pytest.raises(DataError, match="another process has locked"):
        async with alone(folder):
            pass


async def test_a_second_controller_is_told_at_once(tmp_path: Path) -> None:
    folder = lab(tmp_path)
    with folder.locked(), trio.fail_after(app.SOCKET_START_SECONDS / 2):
        async with unix_listener(folder.socket):
            with pytest.raises(DataError, match="another controller uses"):
                async with alone(folder):
                    pass
