"""Debian's ssh to Debian's sshd, through the client, the exporter and its network child."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from jumpstarter_client.errors import DriverError
from jumpstarter_exporter.driver import export
from jumpstarter_proto.errors import JumpstarterError

from jumpstarter_drivers.network.driver import TcpNetwork
from jumpstarter_drivers.ssh import driver as driver_module
from jumpstarter_drivers.ssh import steps
from jumpstarter_drivers.ssh.agent import MAX_REQUEST_BYTES, AgentRequests, running_agent
from jumpstarter_drivers.ssh.client import SSHCommandRunOptions, SSHWrapperClient
from jumpstarter_drivers.ssh.conftest import SshServer, make_key
from jumpstarter_drivers.ssh.driver import SSHWrapper
from jumpstarter_drivers.ssh.options import allowed_options, check_host_key, check_username, split_arguments
from jumpstarter_drivers.testing import serve, serve_async

BATCH = ["-oBatchMode=yes"]


@pytest.fixture(autouse=True)
def lonely_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No agent of this user's. (ssh itself takes the home from the system's list of users.)"""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


def wrapper(server: SshServer, **config: Any) -> SSHWrapper:
    values = {"default_username": server.user, "ssh_identity_file": str(server.identity), **config}
    tcp = TcpNetwork(host="127.0.0.1", port=server.port)
    return SSHWrapper(
        children={"tcp": tcp}, **{key: value for key, value in values.items() if value is not None}
    )


@pytest.mark.parametrize("keep", [False, True])
async def test_a_command_runs_on_the_board_and_the_key_is_never_on_a_disk(
    server: SshServer, keep: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    async with serve_async(wrapper(server, keep_identity=keep)) as client:
        assert isinstance(client, SSHWrapperClient)
        assert (await client.call_async("get_ssh_identity") is None) is keep
        script = f"grep -rl PRIVATE {tmp_path} >&2; ls {tmp_path} | wc -l; exit 3"
        result = await client.run.aio(args=[*BATCH, script])
        assert (result.return_code, result.stderr) == (3, "")
        assert int(str(result.stdout)) >= 1  # the folder of this command was there, and without the key
    assert list(tmp_path.iterdir()) == []


def test_names_of_jumpstarter_work(server: SshServer) -> None:
    with serve(wrapper(server)) as client:
        assert client.username == server.user
        assert client.command.startswith("ssh -o StrictHostKeyChecking=no")
        assert "PRIVATE KEY" in client.identity
        options = SSHCommandRunOptions(capture_as_text=False)
        assert client.run(options, [*BATCH, "printf", "'a b'"]).stdout == b"a b"
        assert client.run(SSHCommandRunOptions(direct=True), [*BATCH, "echo", "x"]).stdout == "x\n"


def test_a_board_that_was_flashed_is_reached_and_a_pinned_key_holds(
    server: SshServer, tmp_path: Path
) -> None:
    other = make_key(tmp_path / "other")
    with serve(wrapper(server, host_keys=[server.host_key, other])) as client:
        assert client.run(args=[*BATCH, "echo", "here"]).stdout == "here\n"
    with serve(wrapper(server, host_keys=[other])) as client:
        result = client.run(args=[*BATCH, "echo", "here"])
        assert (result.return_code, result.stdout) == (255, "")
        assert "Host key verification failed" in str(result.stderr)


async def test_what_the_user_says_comes_before_what_the_exporter_says(server: SshServer) -> None:
    driver = wrapper(server, default_username="nobody-here", ssh_command="ssh -oCiphers=aes256-ctr")
    async with serve_async(driver) as client:
        failed = await client.run.aio(args=[*BATCH, "true"])
        assert failed.return_code == 255
        assert "Permission denied" in failed.stderr
        wanted = await client.run.aio(args=[*BATCH, "-v", "-l", server.user, "true"])
        assert wanted.return_code == 0
        assert "cipher: aes256-ctr" in wanted.stderr


def test_a_board_without_a_server_is_one_sentence(
    server: SshServer, caplog: pytest.LogCaptureFixture
) -> None:
    tcp = TcpNetwork(host="127.0.0.1", port=1)
    with serve(SSHWrapper(children={"tcp": tcp})) as client:
        assert client.run(args=[*BATCH, "true"]).return_code == 255
    assert "nothing listens on 127.0.0.1 port 1; check that the service runs" in caplog.text


async def test_a_step_fails_with_the_reason(server: SshServer) -> None:
    said: list[str] = []

    class Context:
        seconds = 10.0

        def say(self, text: str) -> None:
            said.append(text)

    run: Callable[..., Any] = steps.run.function
    async with serve_async(wrapper(server)) as client:
        assert await run(client, Context(), "echo one; echo two") == "one\ntwo"
        assert said == ["one", "two"]
        with pytest.raises(JumpstarterError, match="`false` ended with status 1, not 0"):
            await run(client, Context(), "false")
    async with serve_async(wrapper(server, ssh_identity_file=None)) as client:
        with pytest.raises(JumpstarterError, match=r"ssh to .* failed: .*Permission denied"):
            await run(client, Context(), "true")


async def test_leaving_ends_ssh_and_its_command(server: SshServer, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = trio.lowlevel.FdStream(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK))
    writer = os.open(fifo, os.O_WRONLY)  # until the command on the board has it open
    async with reader, serve_async(wrapper(server)) as client, trio.open_nursery() as nursery:
        nursery.start_soon(lambda: client.run.aio(args=[*BATCH, f"exec 3> {fifo}; echo here >&3; exec yes"]))
        assert await reader.receive_some() == b"here\n"
        os.close(writer)
        nursery.cancel_scope.cancel()
    with trio.fail_after(30):  # sshd notices that the connection is closed, and ends the command
        async with trio.lowlevel.FdStream(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)) as rest:
            assert await rest.receive_some() == b""


@pytest.mark.parametrize("words", [["-T", "-l", "{user}"], ["--"]])
def test_the_device_is_a_command_of_j(server: SshServer, tmp_path: Path, words: list[str]) -> None:
    config = tmp_path / "lab.yaml"
    config.write_text(
        "apiVersion: jumpstarter.dev/v1alpha1\nkind: ExporterConfig\nmetadata: {namespace: default, name: lab}\n"
        "export:\n  ssh:\n    type: jumpstarter_driver_ssh.driver.SSHWrapper\n    config:\n"
        f"      default_username: {'nobody-here' if '-l' in words else server.user}\n"
        f"      ssh_identity_file: {server.identity}\n"
        "    children:\n      tcp:\n        type: jumpstarter_driver_network.driver.TcpNetwork\n"
        f"        config: {{host: 127.0.0.1, port: {server.port}}}\n"
    )
    j = [str(Path(sysconfig.get_path("scripts")) / "j"), "--config", str(config), "ssh"]
    own = [word.format(user=server.user) for word in words]
    command = [*j, *own, "cat; ls -o /dev/null | wc -l; exit 7"]
    done = subprocess.run(command, input="typed\n", capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("typed\n1\n", 7), done.stderr


def test_a_machine_without_ssh_says_what_to_install(
    server: SshServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    driver = wrapper(server, ssh_identity_file=None)
    with serve(driver) as client:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(JumpstarterError, match="there is no ssh on this machine; install"):
            client.run(args=["true"])
        with pytest.raises(JumpstarterError, match="there is no ssh on this machine; install"):
            client.run_verb("true")
        with pytest.raises(JumpstarterError, match="there is no ssh-agent; install"):
            client.portal.context(running_agent("key")).__enter__()


async def test_a_key_that_cannot_be_used_is_one_sentence(server: SshServer, tmp_path: Path) -> None:
    with_passphrase = tmp_path / "locked"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(with_passphrase)]
    subprocess.run(command, check=True)
    for content in (with_passphrase.read_text(), "no key\n"):
        (tmp_path / "key").write_text(content)
        async with serve_async(wrapper(server, ssh_identity_file=str(tmp_path / "key"))) as client:
            with pytest.raises(JumpstarterError, match=r"ssh-add cannot use the key .*without a passphrase"):
                await client.run.aio(args=["true"])
    async with serve_async(wrapper(server, ssh_identity_file="/nowhere", keep_identity=True)) as client:
        with pytest.raises(
            DriverError, match=r"the key /nowhere cannot be read: .*; check ssh_identity_file"
        ):
            async with client.stream_async("agent") as stream:
                await stream.receive_some()


async def test_an_agent_has_few_connections(server: SshServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "MAX_AGENTS", 1)
    driver = wrapper(server, keep_identity=True)
    async with serve_async(driver) as client:
        async with client.stream_async("agent") as stream:
            await stream.send_all(b"\0\0\0\1\x0b")
            assert (await stream.receive_some()).startswith(b"\0\0")
            with pytest.raises(DriverError, match="connections to the agent are open already; close one"):
                async with client.stream_async("agent") as other:
                    await other.receive_some()
        with trio.fail_after(30):
            while driver._agents:  # the place is free again
                await trio.sleep(0.01)


async def test_an_address_that_a_shell_could_misread_is_not_used(
    server: SshServer, caplog: pytest.LogCaptureFixture
) -> None:
    class Liar(TcpNetwork):
        @export(reads=True)
        async def address(self) -> str:
            return "tcp://$(reboot):22"

    driver = SSHWrapper(children={"tcp": Liar(host="127.0.0.1", port=server.port)})
    async with serve_async(driver) as client:
        assert isinstance(client, SSHWrapperClient)
        async with client._command_line(True, []) as command:
            assert command[-2:] == ["--", "127.0.0.1"]
    assert "no address for --direct (it is $(reboot):22); using the exporter" in caplog.text


async def test_a_kept_key_can_sign_and_nothing_else(server: SshServer) -> None:
    async def ask(stream: Any, request: bytes) -> bytes:
        await stream.send_all(len(request).to_bytes(4, "big") + request)
        reply = b""
        while len(reply) < 4 or len(reply) < 4 + int.from_bytes(reply[:4], "big"):
            reply += await stream.receive_some()
        return reply[4:]

    async with (
        serve_async(wrapper(server, keep_identity=True)) as client,
        client.stream_async("agent") as stream,
    ):
        assert (await ask(stream, b"\x0b"))[:5] == b"\x0c\x00\x00\x00\x01"
        assert await ask(stream, b"\x13") == b"\x05"  # remove all keys: refused
        assert await ask(stream, b"\x16\x00\x00\x00\x01x") == b"\x05"  # lock
        assert (await ask(stream, b"\x0b"))[:5] == b"\x0c\x00\x00\x00\x01"
    async with serve_async(wrapper(server)) as client:
        with pytest.raises(DriverError, match="this device keeps no key"):
            async with client.stream_async("agent") as stream:
                await stream.receive_some()


@given(st.lists(st.binary(max_size=40), max_size=20), st.data())
def test_an_agent_gets_each_request_once_and_only_the_allowed_ones(
    requests: list[bytes], data: st.DataObject
) -> None:
    sent = b"".join(len(one).to_bytes(4, "big") + one for one in requests)
    filtered, place, got = AgentRequests(), 0, b""
    while place < len(sent):
        step = data.draw(st.integers(1, 50))
        got += filtered.feed(sent[place : place + step])
        place += step
    kept = [one if one[:1] in (b"\x0b", b"\x0d") else b"\xff" for one in requests]
    assert got == b"".join(len(one).to_bytes(4, "big") + one for one in kept)


def test_an_agent_gets_no_request_without_an_end() -> None:
    with pytest.raises(ValueError, match="too long"):
        AgentRequests().feed((MAX_REQUEST_BYTES + 1).to_bytes(4, "big"))


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["ls", "-l"], 0),
        (["-l", "root", "ls"], 2),
        (["-lroot", "-vvL", "1:b:2", "ls"], 3),
        (["-v", "--", "-x"], 1),
        (["-o", "User=x"], 2),
        (["-"], 0),
        (["-L"], 1),
        ([], 0),
    ],
)
def test_options_end_where_the_command_begins(words: list[str], options: int) -> None:
    command = words[options:]
    assert split_arguments(words) == (words[:options], command[1:] if command[:1] == ["--"] else command)


def test_an_exporter_adds_only_options_of_the_connection() -> None:
    used, unused = allowed_options(
        "evil -oProxyCommand=reboot -o 'hostkeyalgorithms +ssh-rsa' -o LocalCommand=x -F /etc/passwd -o Ciphers=a,b "
        "-oConnectTimeout='5 -oProxyCommand=x' -o"
    )
    assert used == ["-oHostKeyAlgorithms=+ssh-rsa", "-oCiphers=a,b"]
    assert len(unused) == 6  # the value of -F, too, and an option without its value
    with pytest.raises(ValueError, match="quote"):
        allowed_options("ssh -o 'x")


@pytest.mark.parametrize("name", ["-oProxyCommand=x", "a b", "a;b", "a\nb", "$(x)", "é"])
def test_a_name_that_a_shell_could_misread_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="default_username"):
        check_username(name)


@pytest.mark.parametrize(
    "key", ["", "ssh-ed25519", "ssh-ed25519 AAAA", "a\nb " + "A" * 40, "@revoked * " + "A" * 40]
)
def test_a_wrong_host_key_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="host_keys"):
        check_host_key(key)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"ssh_identity": "a", "ssh_identity_file": "b"}, "both set"),
        ({"keep_identity": True}, "needs a key"),
        ({"ssh_command": "ssh '"}, "quote"),
        ({"children": {}}, "no child tcp"),
    ],
)
def test_a_wrong_configuration_is_refused(config: dict[str, Any], reason: str) -> None:
    children = {"tcp": TcpNetwork(host="127.0.0.1", port=1)}
    with pytest.raises(ValueError, match=reason):
        SSHWrapper(**{"children": children, **config})
