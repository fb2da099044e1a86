"""Where a program ends up when it connects."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import trio
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.rpc import RpcError, Server, ServerCall, StatusCode, unix_listener

import jumpstarter_client
from jumpstarter_client.blocking import PortalThread
from jumpstarter_client.conftest import FakeExporter, FakeRouter
from jumpstarter_client.connections.connect import connect, connect_async, env, open_host
from jumpstarter_client.errors import ConnectError
from jumpstarter_client.identity import client_config
from jumpstarter_client.lease.own_leases import record_created


class Guard(FakeExporter):
    """Writes down the passphrase of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str | None] = []
        self.others: dict[str, str | bytes] = {}
        """What else it was told with the last call."""

    async def GetReport(self, request: object, call: ServerCall) -> object:  # type: ignore[override, type-arg]  # noqa: N802
        self.heard.append(call.header("x-jumpstarter-passphrase"))
        self.others = {key: value for key, value in call.metadata if key.startswith("x-jumpstarter-")}
        return await super().GetReport(request, call)  # type: ignore[arg-type]


@asynccontextmanager
async def listening(exporter: FakeExporter, path: Path) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        server = Server([exporter, FakeRouter(exporter)])
        await nursery.start(server.serve, [unix_listener(path)])
        yield
        nursery.cancel_scope.cancel()


@contextmanager
def daemon(path: Path, name: str) -> Iterator[FakeExporter]:
    exporter = FakeExporter()
    exporter.labels["jumpstarter.dev/name"] = name
    path.parent.mkdir(parents=True, exist_ok=True)
    with PortalThread() as portal, portal.context(listening(exporter, path)):
        yield exporter


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No daemon of this machine's, no configuration of this user's."""
    for name in ("JUMPSTARTER_HOST", "JMP_LEASE", "JMP_GRPC_PASSPHRASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("JUMPSTARTER_RUNTIME_DIRECTORY")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(
        "jumpstarter_client.connections.endpoint.SYSTEM_SOCKET", str(tmp_path / "system.sock")
    )


def test_a_named_exporter_is_used_and_its_devices_work(tmp_path: Path) -> None:
    with daemon(tmp_path / "mine", "mine") as exporter, connect(str(tmp_path / "mine")) as client:
        assert client.name == "mine"
        client.rpi4.power.on()
    assert [method for _, method, _ in exporter.called] == ["on"]


def test_the_environment_names_an_exporter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUMPSTARTER_HOST", str(tmp_path / "mine"))
    with daemon(tmp_path / "mine", "mine"), daemon(tmp_path / "system.sock", "system"), env() as client:
        assert client.name == "mine"


def test_a_lease_of_the_environment_is_reached_by_a_named_exporter_or_the_shells_if_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JMP_LEASE", "mine")
    with pytest.raises(JumpstarterError, match="no client configuration"), connect():
        pytest.fail("it is a controller's")
    with daemon(tmp_path / "mine", "named"), connect(str(tmp_path / "mine")) as client:
        assert client.name == "named"
    with daemon(tmp_path / "lease", "leased"):
        monkeypatch.setenv("JUMPSTARTER_HOST", str(tmp_path / "lease"))
        with connect() as client:
            assert client.name == "leased"


def test_the_systems_daemon_comes_before_the_users(tmp_path: Path) -> None:
    user = tmp_path / "run" / "jumpstarter" / "exporter.sock"
    with daemon(user, "user"):
        with connect() as client:
            assert client.name == "user"
        with daemon(tmp_path / "system.sock", "system"), connect() as client:
            assert client.name == "system"


def test_without_a_daemon_a_board_is_the_configuration_of_that_name(tmp_path: Path) -> None:
    folder = tmp_path / "config" / "jumpstarter" / "exporters"
    folder.mkdir(parents=True)
    for name in ("rpi4", "rock"):
        (folder / f"{name}.yaml").write_text(
            f"metadata: {{name: {name}}}\nexport: {{power: {{type: power.MockPower}}}}"
        )
    with connect(board="rock") as client:
        assert client.name == "rock"


def test_a_stale_socket_is_passed_over_with_a_word_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "jumpstarter_client")
    with daemon(tmp_path / "system.sock", "system"):
        pass
    (tmp_path / "system.sock").touch()
    with daemon(tmp_path / "run" / "jumpstarter" / "exporter.sock", "user"), connect() as client:
        assert client.name == "user"
    assert "system.sock" in caplog.text


def test_a_socket_of_somebody_else_is_an_error_and_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    async def not_for_us(*_: object, **__: object) -> None:
        raise RpcError(StatusCode.PERMISSION_DENIED, "join its group")

    monkeypatch.setattr("jumpstarter_client.connections.connect.connect_unix", not_for_us)
    with pytest.raises(RpcError, match="join its group"), connect():
        pass


def test_a_named_exporter_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with (
        daemon(tmp_path / "system.sock", "system"),
        pytest.raises(JumpstarterError, match="is the exporter running") as caught,
        connect(str(tmp_path / "other")),
    ):
        pass
    assert caught.value.exit_code is ExitCode.UNAVAILABLE


def test_the_passphrase_goes_with_calls_on_unix_sockets_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JMP_GRPC_PASSPHRASE", "sesame")
    guard = Guard()
    with (
        PortalThread() as portal,
        portal.context(listening(guard, tmp_path / "s")),
        connect(str(tmp_path / "s")),
    ):
        pass
    assert guard.heard == ["sesame"]


def test_the_board_and_an_override_go_with_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = Guard()
    monkeypatch.setenv("JUMPSTARTER_OVERRIDE", "force")
    door = str(tmp_path / "s")
    with (
        PortalThread() as portal,
        portal.context(listening(guard, tmp_path / "s")),
        connect(door, board="rpi4"),
    ):
        pass
    assert guard.others == {
        "x-jumpstarter-board": "rpi4",
        "x-jumpstarter-override": "1",
        "x-jumpstarter-force": "1",
    }


def test_a_lease_without_a_controllers_configuration_is_told_to_name_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("JMP_CLIENT_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("JMP_LEASE", "lease-1")
    with pytest.raises(JumpstarterError, match="--client"), connect():
        pass


def test_without_an_exporter_package_the_next_step_is_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(
        "jumpstarter_client.connections.connect.importlib", SimpleNamespace(import_module=missing)
    )
    with pytest.raises(ConnectError, match=r"jumpstarter-sbc\[exporter\]"), connect():
        pass


CONFIG = """
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {namespace: default, name: bench}
export:
  power: {type: power.MockPower}
"""


def test_an_exporter_is_built_in_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "bench.yaml").write_text(CONFIG)
    with connect(config=tmp_path / "bench.yaml") as client:
        assert client.name == "bench"
        client.power.on()


async def test_an_exporter_is_built_in_when_nothing_runs(tmp_path: Path) -> None:
    folder = tmp_path / "config" / "jumpstarter" / "exporters"
    folder.mkdir(parents=True)
    (folder / "bench.yaml").write_text(CONFIG)
    async with connect_async() as client:
        assert client.name == "bench"
        await client.power.on.aio()


async def test_where_there_is_none_a_controllers_board_is_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jumpstarter_exporter.paths.SYSTEM_CONFIG_FOLDER", tmp_path / "etc")
    with pytest.raises(ConnectError, match="or lease a board from a controller: -l board=rpi4") as caught:
        async with connect_async():
            pass
    assert caught.value.exit_code is ExitCode.NOT_FOUND
    with pytest.raises(JumpstarterError) as named:
        async with connect_async(config="bench"):
            pass
    assert "lease a board" not in str(named.value), "whoever named one meant that one"


@pytest.fixture
def lease_at_dead_controller(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A client that has created a lease here, at a controller that is away; no configuration of this host's."""
    monkeypatch.setattr("jumpstarter_exporter.paths.SYSTEM_CONFIG_FOLDER", tmp_path / "etc")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        own = {
            "JMP_ENDPOINT": f"127.0.0.1:{nobody.getsockname()[1]}",
            "JMP_NAMESPACE": "lab",
            "JMP_NAME": "ann",
            "JMP_TOKEN": "a-token",
            "JUMPSTARTER_GRPC_INSECURE": "1",
        }
        for name, value in own.items():
            monkeypatch.setenv(name, value)
        record_created(client_config.load(None, os.environ), "mine")
        yield


@pytest.mark.usefixtures("lease_at_dead_controller")
async def test_where_there_is_none_a_controller_that_is_away_is_said_to_who_has_leases() -> None:
    with pytest.raises(
        ConnectError, match=r"no exporter configuration; .*; which leases you have is not known: "
    ) as caught:
        async with connect_async():
            pass
    assert caught.value.exit_code is ExitCode.UNAVAILABLE


@pytest.mark.usefixtures("lease_at_dead_controller")
@pytest.mark.parametrize("opens", [connect_async, open_host])
@pytest.mark.parametrize("what", ["several configurations", "a door", "a folder that may not be read"])
async def test_a_lease_is_not_looked_for_where_a_board_of_this_machine_may_be_meant(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    opens: Callable[[], AbstractAsyncContextManager[object]],
) -> None:
    sentence = "there is no exporter configuration; "
    with ExitStack() as stack:
        if what == "several configurations":
            folder = tmp_path / "config" / "jumpstarter" / "exporters"
            folder.mkdir(parents=True)
            for name in ("one", "two"):
                (folder / f"{name}.yaml").write_text(CONFIG)
            sentence = "there are several exporter configurations: one, two; "
        elif what == "a door":  # of a daemon that is being started again
            door = stack.enter_context(socket.socket(socket.AF_UNIX))
            door.bind(str(tmp_path / "system.sock"))
        else:

            def may_not(folder: Path) -> None:
                raise PermissionError(13, "Permission denied", str(folder))

            monkeypatch.setattr(Path, "iterdir", may_not)
        with pytest.raises(ConnectError) as caught:
            async with opens():
                pass
    assert str(caught.value).startswith(sentence)
    assert "which leases" not in str(caught.value)
    assert caught.value.exit_code is ExitCode.NOT_FOUND


async def test_a_broken_client_configuration_does_not_hide_that_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jumpstarter_exporter.paths.SYSTEM_CONFIG_FOLDER", tmp_path / "etc")
    (tmp_path / "broken.yaml").write_text("endpoint: [")
    monkeypatch.setenv("JMP_CLIENT_CONFIG", str(tmp_path / "broken.yaml"))
    with pytest.raises(ConnectError, match=r"^there is no exporter configuration; .*broken.yaml"):
        async with connect_async():
            pass


async def test_a_built_in_exporter_can_be_reached_by_other_processes_of_this_user_only(
    tmp_path: Path,
) -> None:
    (tmp_path / "bench.yaml").write_text(CONFIG)
    async with open_host(config=tmp_path / "bench.yaml") as path:
        assert Path(path).stat().st_mode & 0o077 == 0
        async with connect_async(path) as client:
            assert client.name == "bench"


async def test_other_processes_are_led_to_a_daemon_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "system.sock").touch()
    user = tmp_path / "run" / "jumpstarter" / "exporter.sock"
    user.parent.mkdir(parents=True)
    async with listening(FakeExporter(), user), open_host() as path:
        assert path == str(user)
    with pytest.raises(JumpstarterError, match="is the exporter running"):
        async with open_host(str(tmp_path / "other")):
            pytest.fail("nobody is there")


@pytest.mark.parametrize("name", jumpstarter_client.__all__)
def test_the_public_door_gives_what_it_names(name: str) -> None:
    assert not isinstance(getattr(jumpstarter_client, name), ModuleType)


def test_the_public_door_has_nothing_else() -> None:
    with pytest.raises(AttributeError, match="no attribute 'disconnect'"):
        _ = jumpstarter_client.disconnect


@pytest.mark.parametrize("name", ["bench.yaml", "./bench.yml", "missing.yaml"])
def test_a_configuration_is_no_address_and_the_sentence_says_where_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("bench.yaml", "bench.yml"):
        Path(file).write_text(CONFIG)
    with pytest.raises(JumpstarterError) as caught, connect(name):
        pass
    sentence = str(caught.value)
    assert sentence.startswith(f"{name} is a configuration, not the address of an exporter; ")
    assert sentence.endswith(f"connect(config={name!r})")
    if name != "missing.yaml":
        with connect(config=name) as client:
            assert client.name == "bench"
