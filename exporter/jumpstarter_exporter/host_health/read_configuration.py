"""Reads the exporter's files: its boards, their device nodes, and their identities."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.remote import Trust, read_claims

from jumpstarter_exporter import config as configuration
from jumpstarter_exporter.config import ConfigError, Enrolment, Identities
from jumpstarter_exporter.config.folder import BoardFile, boards_of, read_files
from jumpstarter_exporter.devices.spec import walk
from jumpstarter_exporter.host_health.device_nodes import holds_gpio_output, host_nodes_of
from jumpstarter_exporter.host_health.facts import ConfigurationFacts, IdentityFacts
from jumpstarter_exporter.paths import SYSTEM_STATE_FOLDER

__all__ = ["ConfiguredHost", "read_configuration"]


@dataclass
class ConfiguredHost:
    """The result of `read_configuration`."""

    facts: ConfigurationFacts
    nodes: dict[str, list[str]] = field(default_factory=dict)
    """Device nodes, each with the boards' devices that use it."""
    gpio_outputs: list[str] = field(default_factory=list)
    controllers: dict[str, Trust] = field(default_factory=dict)
    """By endpoint."""


def read_configuration() -> ConfiguredHost:
    """The configuration of this host as this user's exporter would read it. No device is opened. Blocking."""
    problems: dict[str, str] = {}
    unseen: dict[str, str] = {}
    found = ConfiguredHost(ConfigurationFacts())
    enrolments: dict[str, Enrolment] = {}
    identities = Identities()
    boards: dict[str, BoardFile] = {}
    try:
        boards = dict(boards_of(read_files()))
    except JumpstarterError as error:
        _note("the configuration folder", error, problems, unseen)
    for name, board in boards.items():
        if board.config is None:
            is_hidden = not board.digest and not os.access(board.path, os.R_OK)
            (unseen if is_hidden else problems)[str(board.path)] = str(board.error)
            continue
        try:
            tree = configuration.build(board.config)
            enrolment = configuration.with_identity(board.config, identities).enrolment
        except JumpstarterError as error:
            _note(str(board.path), error, problems, unseen)
            continue
        for path, spec in walk(tree):
            device = f"{name}.{path}" if path else name
            for node in host_nodes_of(spec):
                found.nodes.setdefault(node, []).append(device)
            if holds_gpio_output(spec):
                found.gpio_outputs.append(device)
        if enrolment is not None and enrolment.host is None:
            enrolments[f"the board {name}"] = enrolment
    enrolments |= dict(_stored(identities, problems, unseen))
    for enrolment in enrolments.values():
        trust = Trust(ca=enrolment.tls.ca, insecure=enrolment.tls.insecure)
        found.controllers.setdefault(enrolment.endpoint, trust)
    known = tuple(
        IdentityFacts(who, one.endpoint, read_claims(one.token).expires) for who, one in enrolments.items()
    )
    if (
        SYSTEM_STATE_FOLDER.exists()
        and identities.folder.parent != SYSTEM_STATE_FOLDER
        and not os.access(SYSTEM_STATE_FOLDER, os.R_OK | os.X_OK)
    ):
        unseen.setdefault(
            str(SYSTEM_STATE_FOLDER), "only its owner may look for identities and tokens there; use sudo"
        )
    files = tuple(str(board.path) for board in boards.values())
    found.facts = ConfigurationFacts(len(boards), problems, unseen, files, known)
    return found


def _note(place: str, error: Exception, problems: dict[str, str], unseen: dict[str, str]) -> None:
    """Paths that this user may not read are not errors."""
    (unseen if isinstance(error.__context__, PermissionError) else problems)[place] = str(error)


def _stored(
    identities: Identities, problems: dict[str, str], unseen: dict[str, str]
) -> Iterator[tuple[str, Enrolment]]:
    """The host's own identity, and those of boards that were enrolled one by one."""
    try:
        if (host := identities.find_host()) is not None:
            yield f"the host {host.name}", host
        for file, stored in identities.every().items():
            if isinstance(stored, ConfigError):
                problems[str(file)] = str(stored)
            elif not stored.host:
                yield f"the board {stored.board}", stored.enrolment
    except JumpstarterError as error:
        _note("the identities", error, problems, unseen)
