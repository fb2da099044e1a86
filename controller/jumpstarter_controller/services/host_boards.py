"""Boards of a host: which names and labels it may give them. Functions over a draft.

A host's names are its own and those that begin with it and a dash. Policies choose exporters by label, so a host sets
nothing but what it was granted, what describes its devices, and its own name.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping

from jumpstarter_proto.report_labels import OWN_PREFIX
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.texts import shown
from msgspec.structs import replace

from jumpstarter_controller.lab import Draft, Exporter, ExporterStatus, Host, Key, LabState
from jumpstarter_controller.selectors import check_labels
from jumpstarter_controller.selectors.labels import LabelError, check_key, check_name

__all__ = [
    "USUAL_KEYS",
    "boards_of",
    "change_host",
    "check_grants",
    "register_board",
    "retire_board",
]

USUAL_KEYS = ("board", "host")
"""Labels that a host may set by default, so that `-l host=NAME` works."""
HOST_LABEL = OWN_PREFIX + "host"
BOARD_LABEL = OWN_PREFIX + "board"
DESCRIPTIONS = tuple(OWN_PREFIX + name for name in ("interface", "vendor", "model"))
"""What a board has, for people and selectors; with a dash and what it is, such as `jumpstarter.dev/interface-power`."""
MAX_BOARDS = 128
"""The limit of one host's boards, including retired ones."""
MAX_LABELS = 64
"""The limit of labels that a host sets on one board."""
MAX_GRANTS = 64


def boards_of(state: LabState, host: Key) -> list[Exporter]:
    """The exporters of a host's boards, by name."""
    found = [one for one in state.all(Exporter) if (one.namespace, one.host) == (host.namespace, host.name)]
    return sorted(found, key=lambda one: one.name)


def check_grants(keys: Iterable[str]) -> tuple[str, ...]:
    """The label keys that a host may set, sorted. RpcError: INVALID_ARGUMENT, a key is invalid or reserved."""
    found = tuple(sorted(set(keys)))
    if len(found) > MAX_GRANTS:
        raise _invalid(f"a host may set at most {MAX_GRANTS} keys of labels, not {len(found)}")
    for key in found:
        try:
            check_key(key)
        except LabelError as error:
            raise _invalid(str(error)) from None
        if key.startswith(OWN_PREFIX):
            raise _invalid(f"{key}: what is below {OWN_PREFIX} is set by rule; grant another key")
    return found


def register_board(draft: Draft, now: float, host: Host, name: str, said: Mapping[str, str]) -> Exporter:
    """The exporter of a host's board, made or with its labels as they are now.

    Raises:
        RpcError: INVALID_ARGUMENT, no name or no label; PERMISSION_DENIED, not this host's name, or not its label to
            set; RESOURCE_EXHAUSTED, it has too many boards.
    """
    _check_own(draft, host, name)
    _check_labels(host, said)
    key = Key(host.namespace, name)
    record = draft.get(Exporter, key)
    if record is None:
        if len(boards_of(draft, host.key)) >= MAX_BOARDS:
            raise RpcError(
                StatusCode.RESOURCE_EXHAUSTED,
                f"host {host.name} has {MAX_BOARDS} boards, and may have no more; delete those that are gone: "
                "jumpstarter-controller admin exporter delete NAME",
            )
        record = Exporter(
            namespace=host.namespace, name=name, uid=str(uuid.uuid4()), created=now, host=host.name
        )
    elif record.host != host.name:
        raise RpcError(
            StatusCode.PERMISSION_DENIED,
            f"there is an exporter {name} already that is {_owner(record)}, not host {host.name}'s; give the board "
            f"another name, or delete that one: jumpstarter-controller admin exporter delete {name}",
        )
    changed = replace(record, said=dict(said), labels=_labels(host, name, said), gone_since=None)
    if record.gone_since is not None:
        changed = replace(changed, status_message="it has not connected yet")
    if changed != draft.get(Exporter, key):
        draft.put(changed)
    return changed


def retire_board(draft: Draft, now: float, host: Host, name: str) -> None:
    """Mark a board that its host does not have any more; the exporter is kept.

    Raises:
        RpcError: PERMISSION_DENIED, the board belongs to another host.
    """
    record = draft.get(Exporter, Key(host.namespace, name))
    if record is None:
        return
    if record.host != host.name:
        raise RpcError(
            StatusCode.PERMISSION_DENIED,
            f"exporter {shown(name)} is {_owner(record)}, not host {host.name}'s",
        )
    if record.gone_since is None:
        since = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now))
        said = f"gone since {since}: host {host.name} has no such board any more"
        draft.put(
            replace(
                record,
                devices=0,
                status=ExporterStatus.OFFLINE,
                status_message=said,
                reasons=(),
                gone_since=now,
            )
        )


def change_host(draft: Draft, host: Host, labels: Mapping[str, str], may_label: tuple[str, ...]) -> Host:
    """Change the labels and the grants of a host. Labels that it may no longer set are removed from its boards."""
    changed = replace(host, labels=dict(labels), may_label=may_label)
    draft.put(changed)
    for board in boards_of(draft, host.key):
        said = {key: value for key, value in board.said.items() if not _refusal(changed, key, value)}
        draft.put(replace(board, said=said, labels=_labels(changed, board.name, said)))
    return changed


def _labels(host: Host, name: str, said: Mapping[str, str]) -> dict[str, str]:
    short = name[len(host.name) + 1 :] or name
    usual = {key: value for key, value in (("host", host.name), ("board", short)) if key in host.may_label}
    return usual | dict(said) | host.labels | {HOST_LABEL: host.name, BOARD_LABEL: short}


def _check_own(state: LabState, host: Host, name: str) -> None:
    try:
        check_name(name)
    except LabelError as error:
        raise _invalid(f"board {error}; name it otherwise") from None
    if not _is_below(name, host.name):
        raise RpcError(
            StatusCode.PERMISSION_DENIED,
            f"{name} is not a name of host {host.name}'s to give; its boards are called {host.name} or "
            f"{host.name}-SOMETHING",
        )
    for other in state.all(Host):
        is_nearer = len(other.name) > len(host.name) and other.namespace == host.namespace
        if is_nearer and _is_below(name, other.name):
            raise RpcError(
                StatusCode.PERMISSION_DENIED,
                f"{name} is a name of host {other.name}'s, not of host {host.name}'s; give the board another name",
            )


def _is_below(name: str, host: str) -> bool:
    return name == host or name.startswith(f"{host}-")


def _check_labels(host: Host, said: Mapping[str, str]) -> None:
    if len(said) > MAX_LABELS:
        raise _invalid(f"a board has at most {MAX_LABELS} labels of its host's, not {len(said)}")
    try:
        check_labels(said)
    except LabelError as error:
        raise _invalid(str(error)) from None
    for key, value in said.items():
        if refusal := _refusal(host, key, value):
            raise RpcError(StatusCode.PERMISSION_DENIED, refusal)


def _refusal(host: Host, key: str, value: str) -> str:
    """Why a host may not set that label; empty: it may."""
    if key in host.labels:
        if value == host.labels[key]:
            return ""
        return (
            f"label {key} is {host.labels[key]!r} on all boards of host {host.name}, as the lab says, "
            f"and not {value!r}; leave it out"
        )
    if key.startswith(OWN_PREFIX):
        if any(key == one or key.startswith(f"{one}-") for one in DESCRIPTIONS):
            return ""
        return f"label {key} is not a host's to set: it is set by rule; leave it out"
    if key not in host.may_label:
        return (
            f"host {host.name} may not set the label {key}; leave it out, or let it: "
            f"jumpstarter-controller admin host change {host.name} --may-label {key}"
        )
    if key == "host" and value != host.name:
        return f"label host of a board of host {host.name} is {host.name!r}, and not {value!r}; leave it out"
    return ""


def _owner(record: Exporter) -> str:
    return f"host {record.host}'s" if record.host else "a board without an owner"


def _invalid(sentence: str) -> RpcError:
    return RpcError(StatusCode.INVALID_ARGUMENT, sentence)
