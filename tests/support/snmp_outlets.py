"""Debian's snmpd on loopback, with tables of outlets that a script beside it keeps (pass_persist)."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["Agent", "snmpd"]

AUTH, PRIV = "auth-s3cret", "priv-s3cret"
_ENTERPRISES = tuple(f".1.3.6.1.4.1.{number}" for number in (318, 534, 1718, 3808, 13742, 28507))
_SCRIPT = """
import json, pathlib, sys
file = pathlib.Path(sys.argv[1])

def say(*lines):
    print(*lines, sep="\\n", flush=True)

while line := sys.stdin.readline():
    word = line.strip()
    if word == "PING":
        say("PONG")
    if word not in ("get", "getnext", "set"):  # a blank line comes behind each set
        continue
    oid = sys.stdin.readline().strip()
    value = sys.stdin.readline().split() if word == "set" else []
    table = json.loads(file.read_text())
    if word == "get" and (oid in table["values"] or oid in table["writes"]):
        after = table["later"].get(oid, [])
        shown = after.pop(0) if after else table["values"].get(oid, 0)
        file.write_text(json.dumps(table))
        say(oid, "integer", shown)
    elif word == "set" and oid in table["writes"] and value[0] == "integer":
        table["written"].append([oid, int(value[1])])
        effects = table["writes"][oid]
        if effects is None:
            table["values"][oid] = int(value[1])
        elif value[1] in effects:
            table["values"].update(effects[value[1]])
        file.write_text(json.dumps(table))
        say("DONE")
    else:
        say("NONE" if word != "set" else "not-writable")
"""


class Agent:
    """A device. What is written to an object of `writes` sets others, or itself."""

    def __init__(self, port: int, file: Path) -> None:
        self.port = port
        self._file = file
        self.reset({}, {})

    def reset(
        self,
        values: dict[str, int],
        writes: dict[str, dict[str, dict[str, int]] | None],
        later: dict[str, list[int]] | None = None,
    ) -> None:
        """Objects and their values; what each write does; what is read in place of a value the next times."""

        def dotted(one: dict[str, int]) -> dict[str, int]:
            return {f".{oid}": value for oid, value in one.items()}

        table = {
            "values": dotted(values),
            "writes": {
                f".{o}": w and {text: dotted(new) for text, new in w.items()} for o, w in writes.items()
            },
            "later": {f".{oid}": shown for oid, shown in (later or {}).items()},
            "written": [],
        }
        self._file.write_text(json.dumps(table))

    @property
    def written(self) -> list[tuple[str, int]]:
        """What was written, in order."""
        return [(oid.lstrip("."), value) for oid, value in json.loads(self._file.read_text())["written"]]


@contextmanager
def snmpd(folder: Path) -> Iterator[Agent]:
    """An agent for a block."""
    program = shutil.which("snmpd", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    if program is None:
        pytest.skip("missing: snmpd; apt install snmpd")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    script, table, config = folder / "table.py", folder / "table.json", folder / "snmpd.conf"
    script.write_text(_SCRIPT)
    agent = Agent(port, table)
    roots = (*_ENTERPRISES, ".1.3.6.1.2.1.105")
    lines = [f"pass_persist {root} {sys.executable} {script} {table}" for root in roots]
    lines += [
        "rwcommunity private 127.0.0.1",
        "rocommunity public 127.0.0.1",
        "createUser plain",
        "rwuser plain noauth",
    ]
    for name, auth, priv in (("sha", "SHA", "AES"), ("md5", "MD5", "DES"), ("sha256", "SHA-256", "AES")):
        lines += [f"createUser {name} {auth} {AUTH} {priv} {PRIV}", f"rwuser {name} priv"]
    config.write_text("\n".join(lines) + "\n")
    environment = {**os.environ, "SNMP_PERSISTENT_DIR": str(folder / "kept"), "MIBS": ""}
    command = [
        program,
        "-f",
        "-Le",
        "-C",
        "-c",
        str(config),
        "-p",
        str(folder / "pid"),
        f"udp:127.0.0.1:{port}",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "NET-SNMP version" in line:
                break
        drain = threading.Thread(target=process.stderr.read)  # else it would stop at a full pipe
        drain.start()
        try:
            yield agent
        finally:
            process.terminate()
            process.wait(10)
            drain.join()
