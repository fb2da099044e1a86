"""Turn facts about the host into the sentences of the status, with what to do. No I/O; facts contain no secrets."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jumpstarter_proto.texts import shown

__all__ = ["Board", "Interface", "StatusFacts", "status_bytes", "status_lines"]

WIDTH = 92
MAX_LINES_OF_BOARDS = 40
MAX_FAULTS = 10
"""More of them would leave no space in the file for how to reach the host."""
MAX_TEXT = 400
MIN_FREE_BYTES = 64 * 1024 * 1024
"""With less free space, the recording of a busy console soon fills the card."""


@dataclass(frozen=True)
class Interface:
    """A network interface, with the addresses that other hosts can use."""

    name: str
    is_wireless: bool
    is_connected: bool
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Board:
    """A board of the host, with a line for each of its devices."""

    name: str
    problem: str = ""
    use: str = ""
    """Who uses it, or why it cannot be leased."""
    devices: tuple[str, ...] = ()


@dataclass(frozen=True)
class StatusFacts:
    """Facts about a host at one moment."""

    hostname: str
    faults: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    has_file: bool = True
    other_host: str = ""
    """The name of this host in the network, if another host has its own name."""
    interfaces: tuple[Interface, ...] = ()
    wifi: str = ""
    """The configured Wi-Fi network."""
    wifi_trouble: str = ""
    """Why it is not connected: `key` or `range`."""
    has_keys: bool = False
    is_time_known: bool = True
    time_server: str = ""
    enrolled: str = ""
    """The identity of the host, and its controller."""
    endpoint: str = ""
    is_controller: bool = False
    is_waiting: bool = False
    """There is a pairing code that may still be valid."""
    refusal: str = ""
    trouble: str = ""
    boards: tuple[Board, ...] = ()
    boards_trouble: str = ""
    free_bytes: int | None = None
    read_only: tuple[str, ...] = ()
    """File systems of the card that cannot be written."""
    updates: tuple[str, ...] = ()
    """Sentences about the running or the last update."""
    is_root_writable: bool = False
    """The root is writable, for example during an update."""
    is_starting: bool = False
    """The host is booting: network and boards are not known yet."""
    data: str = ""
    """The state of the data partition at the boot: a word of DATA, or another word if it has no fault."""


_FORGETS = "what changes now is forgotten when the power goes, and this host begins as a new one"
DATA = {
    "mended": (
        "the file system with this host's state was damaged and has been mended; look whether recordings and "
        "settings are still there, and keep another card ready"
    ),
    "missing": f"this card has no partition for this host's state, so {_FORGETS}; write the image to it again",
    "broken": (
        f"the file system with this host's state is damaged beyond mending, so {_FORGETS}; copy what you need, and "
        "write the image to another card"
    ),
    "read-only": (
        "the card cannot be written any more, it may be worn out; this host keeps its settings, and "
        "loses changes at power-off; write the image to another card"
    ),
}
"""The sentence for each word that the initial file system (scripts/init-bottom/lasting) writes."""


def status_lines(facts: StatusFacts) -> list[str]:
    """The lines of the status; each has at least one sentence."""
    lines = [*_faults(facts), *_card(facts), *_updates(facts), *_name(facts)]
    if facts.is_starting:
        lines += [
            *_controller(facts),
            "It is starting. In two minutes there is more here: the network, the boards.",
        ]
    else:
        lines += [*_network(facts), *_time(facts), *_controller(facts), *_boards(facts)]
    return [shown(line, MAX_TEXT) for line in lines]


def status_bytes(lines: Sequence[str]) -> bytes:
    """The status as a text file: with CRLF for Notepad, and with short lines."""
    wrapped = ["Status of this Jumpstarter host", "-------------------------------", ""]
    for line in lines:
        indent = "  " if line.startswith("  ") else ""
        wrapped += textwrap.wrap(
            line.strip(),
            WIDTH,
            initial_indent=indent,
            subsequent_indent=f"{indent}    ",
            break_on_hyphens=False,
        )
    return ("\r\n".join(wrapped) + "\r\n").encode()


def _faults(facts: StatusFacts) -> Iterator[str]:
    if facts.faults:
        yield "Problem: jumpstarter.yaml has an error and was not used; the previous settings stay."
        for fault in facts.faults[:MAX_FAULTS]:
            yield f"  {fault}"
        if len(facts.faults) > MAX_FAULTS:
            yield f"  and {len(facts.faults) - MAX_FAULTS} more: jumpstarter-image check jumpstarter.yaml"
        yield "  Correct it on this card and start the host again, or save it on the host: it is read again at once."
    elif not facts.has_file:
        yield "Problem: there is no jumpstarter.yaml beside this file; the previous settings stay."
    for problem in facts.problems:
        yield f"Problem: {problem}."


def _card(facts: StatusFacts) -> Iterator[str]:
    if facts.data in DATA:
        yield f"Problem: {DATA[facts.data]}."
    for place in facts.read_only:
        yield (
            f"Problem: {place} cannot be written; the card may be worn out or was pulled out; "
            "copy what you need and use another card."
        )
    if facts.free_bytes is not None and facts.free_bytes < MIN_FREE_BYTES:
        yield (
            f"Problem: the card is too small or full, only {facts.free_bytes // 1024**2} MB are free; "
            "use a larger card, 4 GB or more, or remove recordings."
        )


def _updates(facts: StatusFacts) -> Iterator[str]:
    yield from facts.updates
    if facts.is_root_writable and not any("do not switch" in line for line in facts.updates):
        yield (
            "The system's partition stays writable until the next start, because a program still uses files that "
            "an update has replaced; when this host is not in use, run: sudo reboot"
        )


def _name(facts: StatusFacts) -> Iterator[str]:
    yield f"Host name: {facts.hostname}."
    if facts.other_host:
        yield (
            f"Problem: another host on this network has the name {facts.hostname}, too, so the name of this one is "
            f"{facts.other_host}.local; write another `hostname` into jumpstarter.yaml."
        )
    name = facts.other_host or facts.hostname
    if facts.has_keys:
        yield f"To log in: ssh lab@{name}.local, or lab@ and one of the addresses below."
    else:
        yield "Nobody can log in by SSH: add `sshKeys` to jumpstarter.yaml."


def _network(facts: StatusFacts) -> Iterator[str]:
    for one in facts.interfaces:
        kind = "Wi-Fi" if one.is_wireless else "Network cable"
        if one.addresses:
            yield f"{kind} ({one.name}): connected, {', '.join(one.addresses)}."
        elif one.is_connected:
            yield (
                f"{kind} ({one.name}): connected, but without an address; "
                "check the network's DHCP server, or write an `address`."
            )
        elif not one.is_wireless:
            yield f"{kind} ({one.name}): not connected."
        elif facts.wifi_trouble == "key":
            yield (
                f"Wi-Fi ({one.name}): the passphrase of {facts.wifi} is wrong; "
                "write the right one into jumpstarter.yaml."
            )
        elif facts.wifi_trouble == "range":
            yield (
                f"Wi-Fi ({one.name}): the network {facts.wifi} is not in range; "
                "check `ssid`, `country` and the place."
            )
        elif facts.wifi:
            yield f"Wi-Fi ({one.name}): not connected to {facts.wifi} yet."
        else:
            yield f"Wi-Fi ({one.name}): not set up."
    if facts.wifi and not any(one.is_wireless for one in facts.interfaces):
        yield "Problem: `wifi` is set up, but this host has no Wi-Fi that Linux knows; use a cable or an adapter."
    if not facts.interfaces:
        yield "Problem: this host has no network interface that Linux knows; use a supported adapter."


def _time(facts: StatusFacts) -> Iterator[str]:
    if facts.is_time_known:
        yield "Time: known."
        return
    if facts.is_controller and not facts.time_server:
        yield (
            "Time: no time server has answered, so this host uses its own clock, from three minutes after its start, "
            "for the hosts of this lab, too. If it is wrong: sudo date -s '2026-07-31 12:00', or a `timeServer`."
        )
        return
    server = (
        f"the time server {facts.time_server} has not answered"
        if facts.time_server
        else "no time server has answered"
    )
    yield (
        f"Time: not known yet, {server}; local use works, but the controller's certificate is checked only "
        "when it is. Without a way to the internet, write a `timeServer` of your network."
    )


def _controller(facts: StatusFacts) -> Iterator[str]:
    if facts.enrolled:
        yield f"Controller: this host is {facts.enrolled}."
    if facts.refusal:
        yield (
            f"Problem: the controller at {facts.endpoint} refused: {facts.refusal.rstrip('.')}. This host tries again "
            "with a new `pairingCode`, which `jumpstarter-controller admin pair host NAME` prints (of a host that "
            "it knows, with --renew)."
        )
    elif facts.trouble:
        trouble = facts.trouble if facts.trouble.endswith("?") else facts.trouble.rstrip(".") + "."
        yield (
            f"Controller: not enrolled yet: {trouble} This host tries again by itself, "
            "and when jumpstarter.yaml changes."
        )
    elif facts.is_waiting:
        yield f"Controller: this host is about to be enrolled at {facts.endpoint}."
    elif facts.is_controller and not facts.enrolled:
        yield "Controller: this host is its own controller, and about to be enrolled there."
    elif not facts.enrolled and facts.endpoint:
        yield (
            f"Controller: none; {facts.endpoint} needs a `pairingCode`: remove the # before it in jumpstarter.yaml, or "
            "write the one that `jumpstarter-controller admin pair host NAME` prints."
        )
    elif not facts.enrolled:
        yield "Controller: none; to lease these boards from elsewhere add `endpoint`, `fingerprint` and `pairingCode`."
    elif facts.endpoint and not facts.enrolled.endswith(f" of {facts.endpoint}"):
        yield f"  jumpstarter.yaml names {facts.endpoint}; to move there, add a `pairingCode` of that controller."


def _boards(facts: StatusFacts) -> Iterator[str]:
    if facts.boards_trouble:
        yield f"Boards: not known: {facts.boards_trouble}."
        return
    if not any(board.devices or board.problem for board in facts.boards):
        yield (
            "Boards: none; Jumpstarter knows none of the plugged-in devices. "
            "Plug in a serial adapter or another USB device."
        )
        return
    lines: list[str] = []
    for board in facts.boards:
        state = f"not served: {board.problem}" if board.problem else board.use or "served"
        lines.append(f"Board {board.name}: {state.rstrip('.')}.")
        lines += [f"  {device}" for device in board.devices]
    yield from lines[:MAX_LINES_OF_BOARDS]
    if len(lines) > MAX_LINES_OF_BOARDS:
        yield f"  and {len(lines) - MAX_LINES_OF_BOARDS} lines more: jumpstarter-exporter boards"
