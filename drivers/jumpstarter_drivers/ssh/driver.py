"""The host's side of SSH: who logs in, with which key, and which keys the board has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import trio
from jumpstarter_exporter.driver import DeviceBusy, DeviceFailed, DeviceMissing, Driver, export, export_stream
from jumpstarter_exporter.grpc_interface import GrpcInterface, jumpstarter_interface

from jumpstarter_drivers.ssh.agent import AgentError, FilteredAgentStream, running_agent
from jumpstarter_drivers.ssh.options import allowed_options, check_host_key, check_username

__all__ = ["SSHWrapper"]

KEPT_IDENTITY = "jumpstarter.dev/ssh-agent"
"""The device's label if its private key stays on the exporter."""
MAX_IDENTITY_BYTES = 64 * 1024
MAX_AGENTS = 16
"""Connections to an agent at a time: each is three processes on the exporter's host."""


@dataclass(kw_only=True, eq=False)
class SSHWrapper(Driver):
    """SSH to a board, through its child `tcp`.

        export:
          ssh:
            type: ssh.SSHWrapper
            config:
              default_username: root
              ssh_identity_file: /etc/jumpstarter/keys/rpi4
              keep_identity: true
            children:
              tcp:
                type: network.TcpNetwork
                config: {host: 192.168.1.5, port: 22}

    Opening and closing it does nothing to the board.
    """

    client: ClassVar[str] = "jumpstarter_driver_ssh.client.SSHWrapperClient"
    interface: ClassVar[str] = "ssh"
    grpc_interfaces: ClassVar[tuple[GrpcInterface, ...]] = (jumpstarter_interface("ssh"),)

    default_username: str = ""
    ssh_command: str = "ssh -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    """Options of the connection, after `ssh`. Our client checks host keys in its own way."""
    ssh_identity: str | None = field(default=None, repr=False)
    """The private key itself."""
    ssh_identity_file: str | None = None
    """A file of the exporter's host with the private key."""
    keep_identity: bool = False
    """Whether the private key stays on the exporter, which then signs for its users."""
    host_keys: list[str] = field(default_factory=list)
    """Public keys, of which the board must have one; none: any is accepted, as flashing makes a new one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if "tcp" not in self.children:
            raise ValueError(
                "it has no child tcp; add a network.TcpNetwork, or a `ref` to one, to `children`"
            )
        if self.ssh_identity and self.ssh_identity_file:
            raise ValueError("ssh_identity and ssh_identity_file are both set; leave one of them out")
        if self.keep_identity and not (self.ssh_identity or self.ssh_identity_file):
            raise ValueError("keep_identity needs a key to keep; set ssh_identity_file")
        check_username(self.default_username)
        allowed_options(self.ssh_command)
        self.host_keys = [check_host_key(key) for key in self.host_keys]
        self._agents = 0

    def extra_labels(self) -> dict[str, str]:
        """Labels that clients need."""
        return {KEPT_IDENTITY: "true"} if self.keep_identity else {}

    @export
    def get_default_username(self) -> str:
        """The user on the board."""
        return self.default_username

    @export
    def get_ssh_command(self) -> str:
        """The command line of ssh, without a host."""
        return self.ssh_command

    @export
    def get_ssh_identity(self) -> str | None:
        """The private key, unless it stays here."""
        return None if self.keep_identity else self._identity()

    @export
    def get_host_keys(self) -> list[str]:
        """The only keys that the board may have; empty if it may have any."""
        return self.host_keys

    @export_stream
    @asynccontextmanager
    async def agent(self) -> AsyncIterator[trio.abc.HalfCloseableStream]:
        """A connection to an agent with the private key, which runs as long as the connection."""
        key = await self.in_thread(self._identity)
        if not self.keep_identity or key is None:
            raise ValueError("this device keeps no key; set ssh_identity_file and keep_identity")
        if self._agents >= MAX_AGENTS:
            raise DeviceBusy(f"{MAX_AGENTS} connections to the agent are open already; close one")
        self._agents += 1
        try:
            async with running_agent(key) as path, await trio.open_unix_socket(str(path)) as stream:
                yield FilteredAgentStream(stream)
        except AgentError as error:
            raise DeviceFailed(str(error)) from error
        finally:
            self._agents -= 1

    def _identity(self) -> str | None:
        if self.ssh_identity_file is None:
            return self.ssh_identity
        try:
            with Path(self.ssh_identity_file).open(encoding="utf-8") as file:
                return file.read(MAX_IDENTITY_BYTES)
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise DeviceMissing(
                f"the key {self.ssh_identity_file} cannot be read: {reason}; check ssh_identity_file"
            ) from error
