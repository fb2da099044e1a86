"""Every command of every program ends in words when its standard streams are closed, full, or not read."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cyclopts import App
from jumpstarter_client.cli.commands import COMMANDS
from jumpstarter_client.cli.verbs import client_class
from jumpstarter_client.manifests import interfaces
from jumpstarter_client.verb import verbs
from jumpstarter_controller.cli.commands import app as controller
from jumpstarter_controller.cli.router_command import app as router
from jumpstarter_exporter.cli.commands import app as exporter

SCRIPTS = Path(sys.executable).parent
SECONDS = 60
SUBCOMMANDS = {
    "lease": ("create", "list", "show", "extend", "transfer", "release"),
    "config": ("client create", "client delete", "client list", "client use", "client show"),
    "completion": ("bash",),
}
"""The client's commands that have more below; those of the others are found."""


def below(app: App, *path: str) -> Iterator[tuple[str, ...]]:
    """The words of each command of an app, its own first."""
    yield path
    for name in app:
        if not name.startswith("-"):
            yield from below(app[name], *path, name)


def commands(most_verbs: int | None = None) -> list[tuple[str, ...]]:
    """The words of each command, and for each interface of so many verbs."""
    found: list[tuple[str, ...]] = [("jumpstarter",), ("j",)]
    for word in COMMANDS:
        found.append(("jumpstarter", word))
        found += [("jumpstarter", word, *more.split()) for more in SUBCOMMANDS.get(word, ())]
    for interface in interfaces():
        found.append(("jumpstarter", interface))
        found += [
            ("jumpstarter", interface, verb) for verb in list(verbs(client_class(interface)))[:most_verbs]
        ]
    found += below(exporter, "jumpstarter-exporter")
    found += below(controller, "jumpstarter-controller")
    found += below(router, "jumpstarter-router")
    return found


@contextmanager
def full() -> Iterator[int]:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    yield descriptor
    os.close(descriptor)


@contextmanager
def unread() -> Iterator[int]:
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)


@contextmanager
def closed() -> Iterator[int]:
    """A stream whose writes fail because its descriptor is closed. The start of Python without one is tested below."""
    descriptor = os.open("/dev/null", os.O_PATH)
    yield descriptor
    os.close(descriptor)


def start(words: tuple[str, ...], output: int, home: Path, **options: object) -> subprocess.Popen[str]:
    environment = {
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(home),
        "PATH": os.environ["PATH"],
        "JUMPSTARTER_HOST": str(home / "none.sock"),
    }
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
        [SCRIPTS / words[0], *words[1:]],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=options.pop("stderr", subprocess.PIPE),
        cwd=home,
        env=environment,
        text=True,
    )


@pytest.mark.parametrize(("stdout", "code"), [(full, 1), (closed, 1), (unread, 141)])
def test_help_of_every_command_that_cannot_be_written(
    stdout: Callable[[], object], code: int, tmp_path: Path
) -> None:
    every = [words for words in commands(most_verbs=1) if words != ("j",)]  # whose help is its devices
    if stdout is not full:
        every = every[::9]
    wrong = []
    with stdout() as output:  # type: ignore[attr-defined]
        for words in every:
            with start((*words, "--help"), output, tmp_path) as command:
                _, said = command.communicate(timeout=SECONDS)
            if (command.returncode, len(said.splitlines())) != (code, code == 1):
                wrong.append((words, command.returncode, said))
    assert wrong == []


def test_no_command_ends_in_a_traceback_with_nothing_to_read_and_nowhere_to_write(tmp_path: Path) -> None:
    """Without an exporter or a controller, of which most say that, or without their arguments."""
    wrong = []
    with full() as output:
        for words in commands():
            if words[-1] in ("run", "jumpstarter-router"):
                continue  # they serve
            with start(words, output, tmp_path) as command:
                _, said = command.communicate(timeout=SECONDS)
            if "Traceback" in said or command.returncode not in range(9) or len(said.splitlines()) != 1:
                wrong.append((words, command.returncode, said))
    assert wrong == []


@pytest.mark.cold
@pytest.mark.parametrize("how", [">&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(
    "program", ["jumpstarter", "jumpstarter-exporter", "jumpstarter-controller", "jumpstarter-router"]
)
def test_help_with_closed_streams_is_not_a_traceback(program: str, how: str) -> None:
    done = subprocess.run(
        ["/bin/bash", "-c", f"{SCRIPTS / program} --help {how}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    name = "error" if program == "jumpstarter" else program
    sentence = f"{name}: standard output is closed; send it somewhere, or to /dev/null\n"
    assert (done.returncode, done.stderr) == (1, "" if "2>" in how else sentence)


@pytest.mark.cold
def test_a_closed_stdin_is_an_empty_one() -> None:
    done = subprocess.run(
        ["/bin/bash", "-c", f"{SCRIPTS / 'jumpstarter'} login lab.example:1 --insecure <&-"],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode in range(1, 9)
    assert len(done.stderr.splitlines()) == 1
