from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from jumpstarter_proto.process import Inherited, inherited_descriptors
from jumpstarter_proto.process.inherited_descriptors import MAX_DESCRIPTORS


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


def environment(number: object = 1, process: object = None, names: str = "a") -> dict[str, str]:
    process = os.getpid() if process is None else process
    return {"LISTEN_PID": str(process), "LISTEN_FDS": str(number), "LISTEN_FDNAMES": names, "PATH": "/bin"}


def test_a_socket_is_found_by_its_path_and_not_inherited_by_others(path: Path, listener: int) -> None:
    given = environment()
    [(where, found)] = inherited_descriptors(given, first=listener).listeners.items()
    with found:
        assert (where, found.fileno(), found.get_inheritable()) == (path, listener, False)
    assert given == {"PATH": "/bin"}


@pytest.mark.parametrize(
    "given",
    [
        environment(process=1),
        environment("-1"),
        environment("many"),
        environment(0),
        environment("9" * 5000),
        {},
    ],
)
def test_what_is_for_another_process_stays_alone(given: dict[str, str], listener: int) -> None:
    assert inherited_descriptors(given, first=listener) == Inherited()
    assert os.get_inheritable(listener)
    os.close(listener)


@pytest.mark.parametrize("kind", ["TCP", "not listening", "without a path", "no socket", "closed"])
def test_what_is_not_a_listening_unix_socket_is_closed_with_a_warning(
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
    os.set_inheritable(descriptor, True)
    if kind == "closed":
        os.close(descriptor)
    assert inherited_descriptors(environment(), first=descriptor) == Inherited()
    assert len(caplog.records) == 1
    with pytest.raises(OSError):
        os.close(descriptor)


def test_a_number_that_is_too_large_closes_nothing_of_this_process(
    path: Path, listener: int, caplog: pytest.LogCaptureFixture
) -> None:
    first = block_of(listener)
    os.dup2(2, first + 1, inheritable=False)
    found = inherited_descriptors(environment(2), first=first)
    found.listeners[path].close()
    assert caplog.messages == ["systemd has not handed over descriptor 501, though LISTEN_FDS names it"]
    os.close(first + 1)


def block_of(*descriptors: int) -> int:
    """The first of free numbers in a row that are these now, as systemd hands them over."""
    first = 500
    for number, descriptor in enumerate(descriptors, start=first):
        os.dup2(descriptor, number)
        os.close(descriptor)
    return first


def test_what_was_stored_is_found_by_its_name_behind_the_socket(
    path: Path, listener: int, caplog: pytest.LogCaptureFixture
) -> None:
    first = block_of(listener, os.open(os.devnull, os.O_RDONLY), os.open(os.devnull, os.O_RDONLY))
    given = environment(3, names="jumpstarter-exporter.socket:port-188-0:port-188-0")
    found = inherited_descriptors(given, first=first)
    assert (list(found.listeners), found.stored) == ([path], {"port-188-0": first + 1})
    assert not os.get_inheritable(first + 1)
    assert "descriptor 502 (port-188-0), which is not a socket" in caplog.text  # no two of one name
    found.listeners[path].close()
    os.close(first + 1)
    with pytest.raises(OSError):
        os.close(first + 2)


def test_no_more_descriptors_are_touched_than_a_unit_has(path: Path, listener: int) -> None:
    first = block_of(listener)
    os.dup2(first, first + MAX_DESCRIPTORS)
    found = inherited_descriptors(environment(MAX_DESCRIPTORS + 1), first=first)
    found.listeners[path].close()
    os.close(first + MAX_DESCRIPTORS)
