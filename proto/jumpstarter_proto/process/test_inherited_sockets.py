from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from jumpstarter_proto.process import inherited_listeners


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "exporter.sock"


@pytest.fixture
def listener(path: Path) -> Iterator[int]:
    """The descriptor of a listening socket; closed by whoever takes it over."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
        made.listen()
        os.set_inheritable(made.fileno(), True)
        yield made.detach()


def environment(number: object = 1, process: object = None) -> dict[str, str]:
    process = os.getpid() if process is None else process
    return {"LISTEN_PID": str(process), "LISTEN_FDS": str(number), "LISTEN_FDNAMES": "a", "PATH": "/bin"}


def test_a_socket_is_found_by_its_path_and_not_inherited_by_others(path: Path, listener: int) -> None:
    given = environment()
    [(where, found)] = inherited_listeners(given, first=listener).items()
    with found:
        assert (where, found.fileno(), found.get_inheritable()) == (path, listener, False)
    assert given == {"PATH": "/bin"}


@pytest.mark.parametrize(
    "given", [environment(process=1), environment("-1"), environment("many"), environment(0), {}]
)
def test_what_is_for_another_process_stays_alone(given: dict[str, str], listener: int) -> None:
    assert inherited_listeners(given, first=listener) == {}
    assert os.get_inheritable(listener)
    os.close(listener)


@pytest.mark.parametrize("kind", ["TCP", "not listening", "without a path", "no socket", "closed"])
def test_what_is_no_listening_unix_socket_is_closed_with_a_warning(
    kind: str, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if kind == "no socket":
        descriptor = os.open(os.devnull, os.O_RDONLY)
    else:
        made = socket.socket(socket.AF_INET if kind == "TCP" else socket.AF_UNIX)
        if kind == "not listening":
            made.bind(str(path))
        elif kind == "without a path":
            made.bind("\0jumpstarter-test")
            made.listen()
        descriptor = made.detach()
    if kind == "closed":
        os.close(descriptor)
    assert inherited_listeners(environment(), first=descriptor) == {}
    assert len(caplog.records) == 1
    with pytest.raises(OSError):
        os.close(descriptor)
