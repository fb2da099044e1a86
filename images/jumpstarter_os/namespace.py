"""Run programs as root of their own namespaces, so that building an image needs no root.

User, mount and process namespaces, and in them a binfmt_misc of their own (Linux 6.7 and newer), so that programs of
another architecture run there and nothing on this machine changes. All of it ends with the first program in it.
"""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

IDS = 65536
# Magic and mask of an ELF file for aarch64: binfmt_misc(5) of the kernel's documentation, and elf(5).
_MAGIC = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
_MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
# O: the program is given opened; C: with its own rights; F: the emulator is opened now, so that it runs in any root;
# P: argv[0] is kept.
_FLAGS = "OCPF"


class NamespaceError(Exception):
    """The namespace cannot be made; the message gives the reason."""


def emulator() -> str | None:
    """The emulator for programs of arm64, or None if it is not installed."""
    return shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")


def _register(program: str) -> str:
    """A shell command that lets the kernel run aarch64's programs by this one."""
    line = f":qemu-aarch64:M::{_MAGIC}:{_MASK}:{program}:{_FLAGS}"
    return (
        "mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc && "
        f"printf %s {shlex.quote(line)} >/proc/sys/fs/binfmt_misc/register"
    )


def _subordinate(file: Path, user: str) -> int:
    """The first id that this file (/etc/subuid, /etc/subgid) gives to a user."""
    lines = file.read_text().splitlines() if file.exists() else []
    for line in lines:
        name, _, rest = line.partition(":")
        first, _, count = rest.partition(":")
        if name == user and int(count) >= IDS:
            return int(first)
    raise NamespaceError(
        f"{user} has no {IDS} ids in {file}; usermod --add-subuids 200000-265535 --add-subgids 200000-265535 {user}"
    )


def _map_ids(process: int) -> None:
    """Give the namespace of this process ids of its own: as root the same, else those of /etc/subuid."""
    if os.geteuid() == 0:
        for kind in ("uid", "gid"):
            Path(f"/proc/{process}/{kind}_map").write_text(f"0 0 {IDS}\n")
        return
    user = pwd.getpwuid(os.getuid()).pw_name
    for kind in ("uid", "gid"):
        first = _subordinate(Path(f"/etc/sub{kind}"), user)
        own = str(os.getuid() if kind == "uid" else os.getgid())
        # Root there is the user here, who so owns the result.
        subprocess.run(
            [f"new{kind}map", str(process), "0", own, "1", "1", str(first), str(IDS - 1)], check=True
        )


def run(command: Sequence[str | os.PathLike[str]], *, emulated: bool) -> None:
    """Run a command as the root of new namespaces and wait for its end.

    Args:
        command: Its program and arguments.
        emulated: Also run programs of arm64.

    Raises:
        NamespaceError: The namespace cannot be made; the sentence says what is missing.
        subprocess.CalledProcessError: The command failed.
    """
    first = "true"
    if emulated and os.uname().machine != "aarch64":
        program = emulator()
        if program is None:
            raise NamespaceError("programs of arm64 cannot run here; apt install qemu-user-static")
        first = _register(program)
    script = f'{first} && exec "$@"'
    waiting = 'read -r go; exec unshare --mount --pid --fork --kill-child --mount-proc -- sh -c "$0" sh "$@"'
    argv = ["unshare", "--user", "--", "sh", "-c", waiting, script, *(os.fspath(word) for word in command)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        try:
            _wait_for_namespace(process.pid)
            _map_ids(process.pid)
            process.stdin.write(b"go\n")
            process.stdin.close()
            code = process.wait()
        except BaseException:
            process.kill()
            raise
    if code:
        raise subprocess.CalledProcessError(code, [os.fspath(word) for word in command])


def _wait_for_namespace(process: int) -> None:
    """Wait until unshare has made the namespace, whose link then differs from ours."""
    ours = os.readlink("/proc/self/ns/user")
    for _ in range(1000):
        try:
            if os.readlink(f"/proc/{process}/ns/user") != ours:
                return
        except OSError:
            break  # it has ended, and said why
        time.sleep(0.01)
    raise NamespaceError(
        "this kernel does not allow user namespaces (sysctl kernel.unprivileged_userns_clone?)"
    )
