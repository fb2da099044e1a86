"""Reads `boards.yaml`: which discovered devices belong to which board of their host."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import msgspec
from jumpstarter_proto.regular_files import open_regular
from jumpstarter_proto.yaml_files import (
    MAX_BYTES,
    ConfigError,
    Document,
    FieldError,
    check_names,
    read_struct,
)

from jumpstarter_exporter.boards.grouping import MAX_NAME_LENGTH, BoardRule, GroupingRules, board_name
from jumpstarter_exporter.devices.port_patterns import check_port
from jumpstarter_exporter.paths import config_folders

__all__ = ["boards_files", "parse_boards", "read_boards"]

FILE = "boards.yaml"
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


class _Board(msgspec.Struct, frozen=True):
    """A board as written in the file."""

    ports: list[str] = []
    devices: list[str] = []
    labels: dict[str, str] = {}

    def __post_init__(self) -> None:
        """Check that the keys fit together. FieldError names the wrong one."""
        if not self.ports and not self.devices:
            raise FieldError("a board has `ports` or `devices`; write one of them")
        _check_ports("ports", self.ports)


class _Top(msgspec.Struct, frozen=True, rename="camel"):
    """The file's own keys."""

    api_version: Literal["jumpstarter.dev/v1alpha1"] = "jumpstarter.dev/v1alpha1"
    kind: Literal["DiscoveredBoards"] = "DiscoveredBoards"
    boards: Any = None
    """By name; parsed separately."""
    hubs: list[str] = []

    def __post_init__(self) -> None:
        """Check the ports. FieldError names the wrong one."""
        _check_ports("hubs", self.hubs)


def boards_files() -> list[Path]:
    """The possible paths: the user's own, then the system's, which is used only if the other does not exist."""
    return [folder.parent / FILE for folder in config_folders()]


def read_boards(host: str) -> GroupingRules | None:
    """What the first one that there is says; None if there is none. Blocking.

    Raises:
        ConfigError: at its place in the file.
    """
    for file in boards_files():
        try:
            with open_regular(file) as stream:
                raw = stream.read(MAX_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise ConfigError(f"the file cannot be read: {error.strerror}", file=file) from None
        return parse_boards(file, raw, host)
    return None


def parse_boards(file: Path, raw: bytes, host: str) -> GroupingRules:
    """Read and check it. `host` is as `host_name` gives it: boards are named after it.

    Raises:
        ConfigError: at its place in the file.
    """
    document = Document(file, "boards", raw)
    top = read_struct(document, _Top, document.data)
    rules: dict[str, BoardRule] = {}
    owners: dict[str, str] = {}
    for name, data in check_names(document, top.boards, "board", ("boards",)).items():
        path = ("boards", name)
        if not _NAME.fullmatch(name) or len(name) > MAX_NAME_LENGTH:
            raise document.error(
                path,
                f"{name!r} is not a valid name for a board; use lower-case letters, digits and `-`, "
                f"at most {MAX_NAME_LENGTH}",
            )
        full = board_name(host, name)
        if full in rules:
            raise document.error(
                path, f"{rules[full].name} is the board {full}, too; give one of them another name"
            )
        keys = read_struct(document, _Board, data, path)
        for index, device in enumerate(keys.devices):
            if owners.setdefault(device, name) != name:
                raise document.error(
                    (*path, "devices", index),
                    f"{device} is of the board {owners[device]} already; remove one of them",
                )
        rules[full] = BoardRule(name, tuple(keys.ports), tuple(keys.devices), keys.labels)
    return GroupingRules(tuple(rules.values()), tuple(top.hubs))


def _check_ports(key: str, ports: list[str]) -> None:
    for index, port in enumerate(ports):
        check_port(port, key, index)
