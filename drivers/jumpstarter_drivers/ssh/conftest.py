"""Debian's sshd on the loopback interface, as the user that runs the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

PRIVILEGE_SEPARATION = Path("/run/sshd")
"""Where an sshd that runs as root wants to be; Debian's service makes it."""


@dataclass(frozen=True)
class SshServer:
    """A board's SSH server."""

    port: int
    user: str
    identity: Path
    """The private key that it accepts."""
    host_key: str
    """Its own public key."""
    log: Path


def make_key(path: Path) -> str:
    """Write a key pair; the public key."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True)
    return path.with_name(f"{path.name}.pub").read_text()


@contextmanager
def sshd(folder: Path) -> Iterator[SshServer]:
    """A server during the block."""
    program = shutil.which("sshd", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    if program is None or shutil.which("ssh") is None:
        pytest.skip("missing: ssh and sshd; apt install openssh-client openssh-server")
    if os.geteuid() == 0:
        PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    host_key = make_key(folder / "host_key")
    (folder / "authorized").write_text(make_key(folder / "identity"))
    config, log = folder / "sshd_config", folder / "log"
    config.write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host_key\nAuthorizedKeysFile {folder}/authorized\n"
        "PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        "PermitRootLogin yes\nLogLevel VERBOSE\nKexAlgorithms curve25519-sha256\n"  # the cheapest
    )
    with log.open("wb") as into:
        process = subprocess.Popen([program, "-D", "-e", "-f", str(config)], stderr=into)
    try:
        while "Server listening" not in log.read_text():
            assert process.poll() is None, log.read_text()
        yield SshServer(port, pwd.getpwuid(os.geteuid()).pw_name, folder / "identity", host_key, log)
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with sshd(tmp_path_factory.mktemp("sshd")) as found:
        yield found
