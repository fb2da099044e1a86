from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jumpstarter_proto import private_runtime
from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.rpc._metadata import decode_metadata, encode_metadata

from jumpstarter_client.connections.endpoint import (
    BuiltIn,
    Tcp,
    Unix,
    board_metadata,
    board_socket,
    candidates,
    override_metadata,
    parse_host,
    passphrase_metadata,
    selected_board,
)
from jumpstarter_client.errors import AddressError


@pytest.fixture(autouse=True)
def no_private_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever this user has in /tmp."""
    monkeypatch.setattr(private_runtime, "PLACE", str(tmp_path))


def test_an_exporter_that_is_named_is_the_only_candidate() -> None:
    environment = {"JUMPSTARTER_HOST": "/from/environment", "XDG_RUNTIME_DIR": "/run/user/1"}
    assert list(candidates("/asked/for", environment)) == [Unix("/asked/for", asked_for=True)]
    assert list(candidates(None, environment)) == [Unix("/from/environment", asked_for=True)]


def test_without_a_name_daemons_come_before_a_built_in_exporter() -> None:
    assert list(candidates(None, {"XDG_RUNTIME_DIR": "/run/user/1"})) == [
        Unix("/run/jumpstarter/exporter.sock", asked_for=False),
        Unix("/run/user/1/jumpstarter/exporter.sock", asked_for=False),
        BuiltIn(),
    ]


def test_a_private_folder_of_the_user_is_a_place_for_a_daemon(tmp_path: Path) -> None:
    own = tmp_path / f"jumpstarter-{os.geteuid()}"
    own.mkdir(mode=0o700)
    assert list(candidates(None, {}))[2:] == [Unix(f"{own}/exporter.sock", asked_for=False), BuiltIn()]
    own.chmod(0o770)
    assert list(candidates(None, {}))[2:] == [BuiltIn()]


def test_the_runtime_directory_of_another_user_is_no_place_of_ones_own(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        found = list(candidates(None, {"XDG_RUNTIME_DIR": str(closed)}))
    finally:
        os.seteuid(user)
    assert found == [Unix("/run/jumpstarter/exporter.sock", asked_for=False), BuiltIn()]


def test_the_place_of_a_daemon_can_be_set() -> None:
    environment = {"XDG_RUNTIME_DIR": "/run/user/1", "JUMPSTARTER_RUNTIME_DIRECTORY": "/srv/lab"}
    assert list(candidates(None, environment)) == [Unix("/srv/lab/exporter.sock", asked_for=False), BuiltIn()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/tmp/socket", Unix("/tmp/socket", asked_for=True)),
        ("lab:8443", Tcp("lab", 8443, insecure="")),
        ("[::1]:1", Tcp("::1", 1, insecure="")),
        (" lab:1 ", Tcp("lab", 1, insecure="")),
        ("lab:1\n", Tcp("lab", 1, insecure="")),
        ("./odd:80", Unix("./odd:80", asked_for=True)),
        ("unix:/run/x", Unix("/run/x", asked_for=True)),
        ("unix:///run/x", Unix("/run/x", asked_for=True)),
        ("unix://run/x", Unix("/run/x", asked_for=True)),
        ("unix:./x", Unix("./x", asked_for=True)),
        ("unix:80", Tcp("unix", 80, insecure="")),
    ],
)
def test_a_host_is_an_address_only_with_a_port_at_its_end(text: str, expected: Unix | Tcp) -> None:
    assert parse_host(text, {}) == expected


@pytest.mark.parametrize(
    "text",
    [
        "lab.example",
        "lab:",
        ":",
        "lab:0",
        "lab:65536",
        "lab:notaport",
        "lab:\u0661",
        "http://lab:8082",
        "user@lab:1",
        "two words:1",
        "::1",
        "[::1",
        "[::1]",
        "::1:8082",
        "lab:1:2",
        ":8443",
    ],
)
def test_what_is_not_an_address_is_told_how_one_is_written(text: str) -> None:
    with pytest.raises(AddressError, match=r"write HOST:PORT such as .*, or a socket's path") as caught:
        parse_host(text, {})
    assert caught.value.exit_code is ExitCode.USAGE


def test_a_socket_of_this_folder_needs_no_slash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "socket").touch()
    assert parse_host("socket", {}) == Unix("socket", asked_for=True)


@pytest.mark.parametrize("name", ["JMP_GRPC_INSECURE", "JUMPSTARTER_GRPC_INSECURE"])
def test_tls_is_left_out_only_when_asked_for(name: str) -> None:
    assert parse_host("lab:1", {name: "1"}) == Tcp("lab", 1, insecure=name)
    assert parse_host("lab:1", {name: "0"}) == Tcp("lab", 1, insecure="")


def test_passphrase_goes_with_every_call_when_it_is_set() -> None:
    assert passphrase_metadata({}) == []
    assert passphrase_metadata({"JMP_GRPC_PASSPHRASE": "s"}) == [("x-jumpstarter-passphrase", "s")]


def test_a_board_that_is_asked_for_counts_before_that_of_the_environment() -> None:
    environment = {"JUMPSTARTER_BOARD": "rpi5"}
    assert (selected_board("rpi4", environment), selected_board(None, environment)) == ("rpi4", "rpi5")
    assert selected_board(None, {}) is selected_board("", {"JUMPSTARTER_BOARD": ""}) is None


def test_the_socket_of_a_boards_own_process_is_used_where_there_is_one(tmp_path: Path) -> None:
    door, own = str(tmp_path / "exporter.sock"), tmp_path / "boards" / "rpi4.sock"
    assert board_socket(door, "rpi4") == door
    own.parent.mkdir()
    own.touch()
    assert board_socket(door, "rpi4") == str(own)
    assert board_socket(door, "rpi5") == board_socket(door, None) == door


@pytest.mark.parametrize(
    ("how", "metadata"),
    [
        ("", []),
        ("yes", []),
        ("1", [("x-jumpstarter-override", "1")]),
        ("force", [("x-jumpstarter-override", "1"), ("x-jumpstarter-force", "1")]),
    ],
)
def test_who_takes_part_in_a_lease_says_so(how: str, metadata: list[tuple[str, str]]) -> None:
    assert override_metadata({"JUMPSTARTER_OVERRIDE": how}) == metadata
    assert override_metadata({}) == []


@given(st.text(min_size=1))
def test_a_board_of_any_name_can_be_chosen(name: str) -> None:
    headers = [(str(key), str(content)) for key, content, *_ in encode_metadata(board_metadata(name))]
    ((_, value),) = decode_metadata(headers)
    assert (value.decode() if isinstance(value, bytes) else value) == name


def test_blanks_around_the_name_of_a_board_are_a_part_of_it() -> None:
    """Which HTTP/2 takes away around a text."""
    assert board_metadata(None) == []
    assert board_metadata("rpi4") == [("x-jumpstarter-board", "rpi4")]
    assert board_metadata(" rpi4") == [("x-jumpstarter-board-bin", b" rpi4")]


@pytest.mark.parametrize("secret", ["pässe", "a\nb", "\udcff"])
def test_a_passphrase_that_no_exporter_can_have_is_one_sentence(secret: str) -> None:
    with pytest.raises(AddressError, match="JMP_GRPC_PASSPHRASE is invalid"):
        passphrase_metadata({"JMP_GRPC_PASSPHRASE": secret})
