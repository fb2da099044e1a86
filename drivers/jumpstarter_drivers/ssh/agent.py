"""A process of OpenSSH's ssh-agent that holds one private key in its memory, and what its peers may ask of it.

So no private key is written to a disk. The agent ends with the block in which it is used, and also if this process is
killed.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.rpc import socket_folder
from jumpstarter_proto.texts import shown

__all__ = ["AgentError", "AgentRequests", "FilteredAgentStream", "running_agent"]

MAX_REQUEST_BYTES = 256 * 1024
"""As in OpenSSH's agent."""
START_SECONDS = 10.0
END_SECONDS = 5.0

_ALLOWED = frozenset({11, 13})
"""SSH_AGENTC_REQUEST_IDENTITIES and SSH_AGENTC_SIGN_REQUEST (RFC draft-ietf-sshm-ssh-agent)."""
_UNKNOWN = b"\x00\x00\x00\x01\xff"
"""A request that no agent knows: it replies with SSH_AGENT_FAILURE."""

_GUARD = 'echo; cat > /dev/null; kill "$SSH_AGENT_PID"'
"""ssh-agent's child: our end of its standard input is closed when we have ended, however we ended."""


class AgentError(JumpstarterError):
    """There is no agent with the key."""

    status = "FAILED_PRECONDITION"


class AgentRequests:
    """Requests from a peer on their way to an agent, without I/O: all but the allowed ones are replaced.

    Their number and order stay the same, so each request gets its own reply.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes | bytearray | memoryview) -> bytes:
        """Return what to send to the agent for these bytes. ValueError if a request is too long."""
        self._buffer += data
        found = bytearray()
        while len(self._buffer) >= 4:
            end = 4 + int.from_bytes(self._buffer[:4], "big")
            if end > 4 + MAX_REQUEST_BYTES:
                raise ValueError(f"a request of {end - 4} bytes is too long for an SSH agent")
            if len(self._buffer) < end:
                break
            found += self._buffer[:end] if end > 4 and self._buffer[4] in _ALLOWED else _UNKNOWN
            del self._buffer[:end]
        return bytes(found)


class FilteredAgentStream(trio.abc.HalfCloseableStream):
    """A connection to an agent for an untrusted peer, which can list keys and sign, but not change them."""

    def __init__(self, agent: trio.SocketStream) -> None:
        self._agent = agent
        self._requests = AgentRequests()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send the allowed requests. BrokenResourceError after an invalid one."""
        try:
            requests = self._requests.feed(data)
        except ValueError as error:
            await trio.aclose_forcefully(self._agent)
            raise trio.BrokenResourceError(str(error)) from None
        await self._agent.send_all(requests)

    async def wait_send_all_might_not_block(self) -> None:
        """As of the agent's socket."""
        await self._agent.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """As of the agent's socket."""
        await self._agent.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive replies."""
        return bytes(await self._agent.receive_some(max_bytes))

    async def aclose(self) -> None:
        """Close the connection."""
        await self._agent.aclose()


@asynccontextmanager
async def running_agent(key: str) -> AsyncIterator[Path]:
    """Run an agent with this private key during the block, and yield the path of its socket, which is private.

    Raises:
        AgentError: OpenSSH's client is not installed, or the key cannot be used.
    """
    with socket_folder("jumpstarter-agent-") as folder:
        path = folder / "socket"
        try:
            guard = await trio.lowlevel.open_process(
                ["ssh-agent", "-a", str(path), "sh", "-c", _GUARD],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError:
            raise AgentError(
                "there is no ssh-agent; install OpenSSH's client (Debian: openssh-client)"
            ) from None
        try:
            try:
                with trio.fail_after(START_SECONDS):
                    assert guard.stdout is not None
                    if not await guard.stdout.receive_some(1):
                        raise AgentError("ssh-agent does not start; run it by hand to see why")
                    await _add(key, path)
            except trio.TooSlowError:
                raise AgentError(f"ssh-agent does not start within {START_SECONDS:g} s; try again") from None
            yield path
        finally:
            await _end(guard)


async def _add(key: str, path: Path) -> None:
    added = await trio.run_process(
        ["ssh-add", "-q", "-"],
        stdin=key.rstrip().encode() + b"\n",
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env={**os.environ, "SSH_AUTH_SOCK": str(path), "SSH_ASKPASS_REQUIRE": "never"},
        start_new_session=True,  # without a terminal, on which it could ask for a passphrase
    )
    if added.returncode:
        lines = added.stderr.decode("utf-8", "replace").strip().splitlines()
        said = f" ({shown(lines[-1])})" if lines else ""
        raise AgentError(f"ssh-add cannot use the key{said}; it takes a private key without a passphrase")


async def _end(guard: trio.Process) -> None:
    with trio.CancelScope(shield=True):
        for stream in (guard.stdin, guard.stdout):
            if stream is not None:
                await trio.aclose_forcefully(stream)
        with trio.move_on_after(END_SECONDS):
            await guard.wait()
            return
        guard.kill()
        await guard.wait()
