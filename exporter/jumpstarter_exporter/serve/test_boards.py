"""Several boards behind one door."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from google.protobuf import empty_pb2
from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.lab.v1 import host_pb2
from jumpstarter_proto.lab.v1.host_grpc import HostServiceStub
from jumpstarter_proto.rpc import Channel, RpcError, StatusCode, connect_tcp, open_channel
from jumpstarter_proto.v1.jumpstarter_grpc import ExporterServiceStub

from jumpstarter_exporter.devices.look import LOOK
from jumpstarter_exporter.serve.host_server import BOARD
from tests.support.served_host import channel

LIMIT = 30.0


class Host:
    """Its configuration folder, and its process."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.socket = home / "run" / "exporter.sock"
        self.folder = home / "jumpstarter" / "exporters"
        self.folder.mkdir(parents=True)

    def write(self, name: str, text: str = "export: {power: {type: power.MockPower}}") -> Path:
        path = self.folder / f"{name}.yaml"
        path.write_text(text)
        return path

    @contextmanager
    def running(self, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("JMP_")}
        command = [sys.executable, "-c", "from jumpstarter_exporter import cli; cli.main()", "run"]
        command += ["--socket", str(self.socket), *words]
        with subprocess.Popen(
            command,
            env=environment
            | {"XDG_CONFIG_HOME": str(self._home), "JUMPSTARTER_STATE_DIRECTORY": str(self._home / "state")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                assert process.stdout is not None
                lines = (line.strip() for line in process.stdout)
                yield process, next((line for line in lines if not line.startswith("Serving leases")), "")
            finally:
                process.kill()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


async def report(channel: Channel, board: str | None = None) -> tuple[str, int]:
    """Its name, and how many devices it has."""
    metadata = [] if board is None else [(BOARD, board)]
    told = await ExporterServiceStub(channel).GetReport(empty_pb2.Empty(), metadata=metadata)
    return told.labels.get("jumpstarter.dev/name", ""), len(told.reports) - 1


def ends(process: subprocess.Popen[str]) -> tuple[int, str]:
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=LIMIT)
    return process.returncode, said


async def test_every_file_of_the_folder_is_a_board_behind_one_door(host: Host) -> None:
    host.write("rpi4", "metadata: {name: rpi4}\nexport: {power: {type: power.MockPower}}")
    host.write("rock", "export: {power: {type: power.MockPower}, spare: {type: power.MockPower}}")
    with host.running() as (process, line):
        assert line == f"Listening on {host.socket}"
        async with channel(host.socket) as door:
            assert await report(door, "rpi4") == ("rpi4", 1)
            assert await report(door, "rock") == ("rock", 2)
            with pytest.raises(
                RpcError, match="this host has the boards rock, rpi4; choose one: --board"
            ) as caught:
                await report(door)
            assert caught.value.code is StatusCode.FAILED_PRECONDITION
            with pytest.raises(RpcError, match="no board x; it has rock, rpi4") as caught:
                await report(door, "x")
            assert caught.value.code is StatusCode.NOT_FOUND
            listed = await HostServiceStub(door).ListBoards(host_pb2.ListBoardsRequest())
            assert [(board.name, len(board.report.reports)) for board in listed.boards] == [
                ("rock", 3),
                ("rpi4", 2),
            ]
        async with channel(host.socket.parent / "boards" / "rock.sock") as own:
            assert await report(own) == ("rock", 2)
        assert ends(process) == (0, "")
    assert list(host.socket.parent.rglob("*.sock")) == []


async def test_a_list_of_boards_looks_at_their_devices_if_it_is_asked_to(host: Host) -> None:
    host.write("rpi4", "export: {port: {type: serial.PySerial, config: {url: /dev/ttyNONE, record: false}}}")
    host.write("rock")
    with host.running() as (process, _):
        async with channel(host.socket) as door:
            for metadata, expected in ([(LOOK, "1")], "missing"), ([], "ready"):
                request = host_pb2.ListBoardsRequest()
                listed = await HostServiceStub(door).ListBoards(request, metadata=metadata)
                [report] = [board.report for board in listed.boards if board.name == "rpi4"]
                assert report.reports[1].labels["jumpstarter.dev/state"] == expected
        assert ends(process) == (0, "")


async def test_a_file_that_is_broken_disturbs_no_other(host: Host) -> None:
    host.write("rpi4")
    host.write("broken", "export: [")
    host.write("odd", "export: {power: {type: power.Nothing}}")
    host.write("twin", "metadata: {name: rpi4}\nexport: {power: {type: power.MockPower}}")
    with host.running() as (process, _):
        async with channel(host.socket) as door:
            assert await report(door, "rpi4") == ("rpi4", 1)
            for name, why in (
                ("broken", "broken.yaml"),
                ("odd", "power.Nothing"),
                ("twin", "it is named rpi4, as"),
            ):
                with pytest.raises(RpcError, match=f"the board {name} is not served: .*{why}"):
                    await report(door, name)
            listed = await HostServiceStub(door).ListBoards(host_pb2.ListBoardsRequest())
            assert [board.name for board in listed.boards if board.problem] == ["broken", "odd", "twin"]
        code, said = ends(process)
    assert code == 0
    assert "Traceback" not in said
    assert said.count("is not served") == 3


async def test_one_file_is_behind_the_door_as_ever(host: Host) -> None:
    host.write("rpi4")
    with host.running() as (_, _):
        async with channel(host.socket) as door:
            assert await report(door) == await report(door, "rpi4") == ("rpi4", 1)
        assert not (host.socket.parent / "boards").exists()


def test_nothing_that_can_be_served_is_an_error(host: Host) -> None:
    host.write("broken", "export: [")
    host.write("other", "export: 1")
    with host.running() as (process, line):
        _, said = process.communicate(timeout=LIMIT)
    assert (process.returncode, line) == (ExitCode.USAGE, "")
    assert "no board can be served: " in said.splitlines()[-1]


async def test_a_board_that_ends_by_itself_ends_no_other(host: Host) -> None:
    host.write("fine")
    host.write(
        "away",
        "endpoint: 127.0.0.1:1\ntoken: x\ntls: {insecure: true}\nexport: {power: {type: power.MockPower}}\n"
        "failureDetection: {maxRapidFailures: 1}\n",
    )
    host.write(
        "bad",
        "export: {power: {type: power.MockPower}}\nhooks: {beforeLease: {script: 'exit 3', onFailure: exit}}",
    )
    with host.running() as (process, _):
        async with channel(host.socket) as door:
            boards: dict[str, host_pb2.Board] = {}
            while not boards or not boards["bad"].problem or not boards["away"].use:
                listed = await HostServiceStub(door).ListBoards(host_pb2.ListBoardsRequest())
                boards = {board.name: board for board in listed.boards}
            assert boards["bad"].problem == (
                "one of its hooks has failed, with onFailure: exit; "
                "`jumpstarter-exporter resume bad` starts it again"
            )
            assert boards["away"].use.startswith(
                "stopped: failureDetection: 1 times in a row the exporter was not served by 127.0.0.1:1 for 60 s; "
            )
            assert boards["away"].use.endswith("; `jumpstarter-exporter resume away` starts it again")
            assert await report(door, "away") == ("away", 1), "its host's users have it"
            assert await report(door, "fine") == ("fine", 1)
        assert ends(process)[0] == 0


async def test_over_the_network_a_key_of_the_metadata_chooses(host: Host) -> None:
    host.write("rpi4")
    host.write("rock", "export: {power: {type: power.MockPower}, spare: {type: power.MockPower}}")
    with host.running("--listen", "127.0.0.1:0", "--insecure") as (_, line):
        port = int(line.rpartition(":")[2].split()[0])
        async with open_channel(await connect_tcp("127.0.0.1", port)) as remote:
            assert await report(remote, "rock") == ("rock", 2)
            with pytest.raises(RpcError, match="choose one"):
                await report(remote)


@pytest.mark.parametrize("of_several", [False, True])
async def test_a_board_that_another_daemon_serves_is_left_to_it_and_shown(
    host: Host, tmp_path: Path, of_several: bool
) -> None:
    shared = host.write("rpi4")
    host.write("rock")
    with host.running(*([] if of_several else ["--config", str(shared)])) as (process, _):
        other = Host(tmp_path / "other")
        (other.folder / "rpi4.yaml").symlink_to(shared)
        other.write("own")
        with other.running("--listen", "127.0.0.1:0", "--insecure") as (_, line):
            own = host.socket.parent / "boards" / "rpi4.sock" if of_several else host.socket
            async with channel(other.socket) as door:
                assert await report(door, "own") == ("own", 1)
                served = f"served by process {process.pid} of this host; use that from this host: "
                with pytest.raises(RpcError, match=f"{served}--host {own}"):
                    await report(door, "rpi4")
                with pytest.raises(RpcError, match=f"{served}--socket {own}"):
                    await HostServiceStub(door).Drain(host_pb2.DrainRequest(board="rpi4"))
                assert await listed(door) == [("own", 2, ""), ("rpi4", 2, str(own))]
            port = int(line.rpartition(":")[2].split()[0])
            async with open_channel(await connect_tcp("127.0.0.1", port)) as remote:
                assert await listed(remote) == [("own", 2, ""), ("rpi4", 0, "")]
                with pytest.raises(RpcError, match="to users of its host only"):
                    await report(remote, "rpi4")
            process.kill()
            process.wait()
            async with channel(other.socket) as door:
                with pytest.raises(
                    RpcError, match=r"the board rpi4 is not served: its own process has ended"
                ):
                    await report(door, "rpi4")
                assert await listed(door) == [("own", 2, ""), ("rpi4", 0, "")]


async def listed(channel: Channel) -> list[tuple[str, int, str]]:
    """Name, number of nodes and socket of each board."""
    boards = (await HostServiceStub(channel).ListBoards(host_pb2.ListBoardsRequest())).boards
    return [(board.name, len(board.report.reports), board.socket) for board in boards]


async def test_a_board_whose_name_is_not_ascii_is_chosen_in_bytes(host: Host) -> None:
    host.write("one", "metadata: {name: Prüfstand}\nexport: {power: {type: power.MockPower}}")
    host.write("two", "export: {power: {type: power.MockPower}}")
    with host.running():
        async with channel(host.socket) as door:
            exporter = ExporterServiceStub(door)
            told = await exporter.GetReport(
                empty_pb2.Empty(), metadata=[(f"{BOARD}-bin", "Prüfstand".encode())]
            )
            assert told.labels["jumpstarter.dev/name"] == "Prüfstand"
            with pytest.raises(RpcError, match="no board"):
                await exporter.GetReport(empty_pb2.Empty(), metadata=[(f"{BOARD}-bin", b"\xff")])
