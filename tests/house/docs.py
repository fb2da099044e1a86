"""Runs what the documentation shows, so that it stays true.

A fenced block runs when the line before its fence is a comment `<!-- test -->`. A document's marked blocks
run in order in one empty directory that is also $HOME, with the scripts of this environment first on PATH:

- `console`: each `$ ` line is a command (`> ` lines continue it) for one bash per block; what follows up to
  the next `$ ` must be its output, where `...` stands for anything, also over several lines. Where no output
  is shown, any will do. Each command must succeed. A port that a document names (`127.0.0.1:28082`) is a free
  one in each run: another run beside this one, or anybody's program, may have that.
- `python`: a program of its own; it must succeed.
- any other language, marked `<!-- test file=NAME -->`: its text is written to that file.

Blocks with another word than `test` belong to one test that needs more than this environment (`run_as_one`).
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(
    r"^(?P<indent> *)<!-- (?P<mark>\w+)(?: file=(?P<file>\S+))? -->\n+"
    r"(?P=indent)```(?P<language>\w+)[^\n]*\n(?P<body>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
PORT = re.compile(r"(?<=127\.0\.0\.1:)[1-9]\d{3,4}")
SEPARATOR = "\x1e"
ASK_TENTHS = 20
TIMEOUT = 60.0


class DocumentError(AssertionError):
    """A document shows something that does not work as shown."""


@dataclass(frozen=True)
class Block:
    """One marked block."""

    language: str
    body: str
    file: str | None
    line: int


def blocks(text: str, mark: str = "test") -> list[Block]:
    """The blocks of a Markdown text with that mark, in order."""
    found = []
    for match in BLOCK.finditer(text):
        if match["mark"] != mark:
            continue
        indent = match["indent"]
        body = "\n".join(line.removeprefix(indent) for line in match["body"].splitlines()) + "\n"
        found.append(Block(match["language"], body, match["file"], text.count("\n", 0, match.start()) + 1))
    return found


def run(document: Path, home: Path) -> int:
    """Run a document's marked blocks in `home` and say how many there were. DocumentError names the line."""
    found = blocks(with_free_ports(document.read_text()))
    for block in found:
        try:
            _run_block(block, home)
        except DocumentError as error:
            raise DocumentError(f"{document}:{block.line}: {error}") from None
    return len(found)


def run_as_one(
    document: Path,
    home: Path,
    mark: str,
    environment: Mapping[str, str] | None = None,
    afterwards: Sequence[str] = (),
) -> int:
    """Run the blocks with that mark, and say how many there were; all consoles are one bash.

    So what one starts in the background serves the next. `afterwards` are commands that run there as the last ones.
    The `environment` replaces that of other blocks. DocumentError names the document.
    """
    found = blocks(with_free_ports(document.read_text()), mark)
    assert found, f"{document} has no blocks with the mark {mark}"
    for block in found:
        if block.file:
            _run_block(block, home)
    consoles = "".join(block.body for block in found if not block.file and block.language == "console")
    last = "".join(f"$ {command}\n" for command in afterwards)
    try:
        _run_console(consoles + last, home, environment, TIMEOUT * len(found))
    except DocumentError as error:
        raise DocumentError(f"{document}: {error}") from None
    return len(found)


def with_free_ports(text: str) -> str:
    """The same text with other ports of this machine, each number another one, in all its places the same."""
    with ExitStack() as held:
        ports: dict[str, str] = {}
        for number in dict.fromkeys(PORT.findall(text)):
            listener = held.enter_context(socket.create_server(("127.0.0.1", 0)))
            ports[number] = str(listener.getsockname()[1])
    return PORT.sub(lambda port: ports[port[0]], text)


def _run_block(block: Block, home: Path) -> None:
    if block.file:
        target = home / block.file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(block.body)
    elif block.language == "console":
        _run_console(block.body, home)
    elif block.language == "python":
        _execute([sys.executable, "-c", block.body], home)
    else:
        raise DocumentError(f"nothing knows how to run a {block.language!r} block; give it a file=NAME")


def _run_console(
    body: str, home: Path, environment: Mapping[str, str] | None = None, timeout: float | None = None
) -> None:
    commands = _commands(body)
    script = "set -euo pipefail\n" + "".join(f"{command}\nprintf '{SEPARATOR}'\n" for command, _ in commands)
    outputs = _execute(["bash", "-c", script], home, environment, timeout).split(SEPARATOR)
    for (command, shown), output in zip(commands, outputs, strict=False):
        if shown and not matches(shown, output):
            raise DocumentError(f"`{command}` printed\n{output}\nbut the document shows\n{shown}")


def _commands(body: str) -> list[tuple[str, str]]:
    commands: list[tuple[str, str]] = []
    for line in body.splitlines():
        if line.startswith("$ "):
            commands.append((line[2:], ""))
        elif not commands:
            raise DocumentError(f"a console block starts with a `$ ` line, not with {line!r}")
        elif line.startswith("> ") and not commands[-1][1]:
            commands[-1] = (commands[-1][0] + "\n" + line[2:], "")
        else:
            commands[-1] = (commands[-1][0], commands[-1][1] + line + "\n")
    return commands


def matches(shown: str, output: str) -> bool:
    """Whether `output` is what is `shown`, where `...` stands for anything; blank ends do not count."""
    pattern = ".*".join(re.escape(part) for part in shown.strip().split("..."))
    return re.fullmatch(pattern, output.strip(), re.DOTALL) is not None


def _execute(
    command: list[str],
    home: Path,
    environment: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> str:
    timeout = TIMEOUT if timeout is None else timeout
    environment = environment or {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(home),
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "COLUMNS": "250",
        "PYTEST_DEBUG_TEMPROOT": str(home),  # else a document's pytest would remove old folders of other runs
        "PYTHONFAULTHANDLER": "1",  # for what hangs: see `_ask`
    }
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command,
            cwd=home,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            status = -1
            _ask(process)
        finally:
            _end(process.pid)
            process.wait()
        output.seek(0)
        text = output.read()
    if status != 0:
        why = f"did not end within {timeout:.0f} s" if status == -1 else f"exited with {status}"
        raise DocumentError(f"{shlex.join(command)} {why}:\n{text}")
    return text


def _ask(process: subprocess.Popen[bytes]) -> None:
    """Have all Python programs of its group say where they are, which ends them."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGABRT)
        for _ in range(ASK_TENTHS):
            time.sleep(0.1)
            process.poll()
            os.killpg(process.pid, 0)


def _end(group: int) -> None:
    """End what a block left running in the background, such as an exporter."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return
