"""Which device is whose: by hand, and by properties of whatever hypothesis makes up."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jumpstarter_proto.yaml_files import ConfigError

from jumpstarter_exporter.boards.grouping import (
    Assignment,
    BoardRule,
    GroupingRules,
    board_name,
    group_devices,
    host_name,
)
from jumpstarter_exporter.config.boards_file import parse_boards
from jumpstarter_exporter.devices.identity import IdentitySource
from jumpstarter_exporter.devices.known import KnownDevice


def device(path: str, port: str = "", **values: str) -> KnownDevice:
    return KnownDevice(
        key=f"{path}:{port}",
        uuid=uuid4(),
        path=path,
        template="",
        profile="mine",
        interface=values.get("interface", "serial"),
        type="serial.PySerial",
        identity_source=IdentitySource.PORT,
        identity=port,
        identity_reason="",
        port=port,
        vendor=values.get("vendor", ""),
        model=values.get("model", ""),
    )


def grouped(
    rules: GroupingRules | None, *devices: KnownDevice
) -> tuple[dict[str, list[str]], dict[str, str]]:
    boards, others = group_devices("pi4", rules, devices)
    return (
        {name: [one.path for one in board.devices] for name, board in boards.items()},
        {one.device.path: one.reason for one in others},
    )


CONSOLE = device("ft232r-a.serial", "1-1.4.2", vendor="0403", model="FT232R")
RELAY = device("relay-1.power", "1-1.3", interface="power")
GPIO = device("gpio.power")


def test_without_rules_all_are_one_board_that_is_named_as_its_host() -> None:
    assert grouped(None, CONSOLE, RELAY) == ({"pi4": ["ft232r-a.serial", "relay-1.power"]}, {})
    assert grouped(None) == ({"pi4": []}, {})


def test_a_board_has_its_ports_and_what_it_names_and_the_rest_is_no_boards() -> None:
    rules = GroupingRules((BoardRule("rpi4", ("1-1.4.*",)), BoardRule("bench", (), ("relay-1",))))
    boards, others = grouped(rules, CONSOLE, RELAY, GPIO, device("x.serial", "1-2"))
    assert boards == {"pi4-rpi4": ["ft232r-a.serial"], "pi4-bench": ["relay-1.power"]}
    assert others == {
        "gpio.power": "no board in boards.yaml names it",
        "x.serial": "no board in boards.yaml names it or its port 1-2",
    }


def test_a_device_that_is_named_counts_before_its_port_and_a_port_before_a_hub() -> None:
    rules = GroupingRules((BoardRule("a", ("1-1.4.*",)), BoardRule("b", (), ("ft232r-a.serial",))), ("1-1",))
    assert grouped(rules, CONSOLE, RELAY)[0] == {"pi4-b": ["ft232r-a.serial"], "pi4-1-1": ["relay-1.power"]}


def test_a_port_of_two_boards_is_neithers_and_says_so() -> None:
    rules = GroupingRules((BoardRule("a", ("1-1.4.*",)), BoardRule("b", ("1-1.4.2",))))
    assert grouped(rules, CONSOLE) == (
        {},
        {"ft232r-a.serial": "boards.yaml gives it to pi4-a and to pi4-b; take it from one of them"},
    )


def test_what_hangs_on_one_hub_is_one_board_whatever_other_hubs_are_below_it() -> None:
    rules = GroupingRules((), ("1-1.*",))
    muxed = device("sd.storage", "1-1.4.3.1")
    assert grouped(rules, CONSOLE, muxed, RELAY) == (
        {"pi4-1-1-4": ["ft232r-a.serial", "sd.storage"]},
        {"relay-1.power": "no board in boards.yaml names it or its port 1-1.3"},
    )


def test_the_name_of_a_host_is_there_once() -> None:
    assert [board_name("pi4", board) for board in ("pi4", "rpi4", "pi4-rpi4", "pi")] == [
        "pi4",
        "pi4-rpi4",
        "pi4-rpi4",
        "pi4-pi",
    ]
    assert [host_name(name) for name in ("Lab-Pi.example.org", "x_y", "", "-", "a" * 99)] == [
        "lab-pi",
        "x-y",
        "host",
        "host",
        "a" * 30,
    ]


def test_labels_say_what_a_board_has() -> None:
    boards, _ = group_devices(
        "pi4", GroupingRules((BoardRule("rpi4", ("*",), (), {"rack": "3"}),)), [CONSOLE, RELAY]
    )
    assert boards["pi4-rpi4"].labels == {
        "jumpstarter.dev/host": "pi4",
        "jumpstarter.dev/board": "rpi4",
        "jumpstarter.dev/interface-serial": "true",
        "jumpstarter.dev/interface-power": "true",
        "jumpstarter.dev/vendor-0403": "true",
        "jumpstarter.dev/model-ft232r": "true",
        "host": "pi4",
        "board": "rpi4",
        "rack": "3",
    }


WORDS = st.text("ab-", min_size=1, max_size=4).map(lambda text: f"h{text}".strip("-"))
PORTS = st.sampled_from(["", "1-1", "1-1.2", "1-1.2.3", "2-4", "1-1.4.1"])
GLOBS = st.sampled_from(["1-1.*", "1-1.2", "*", "2-?", "1-*"])
DEVICES = st.lists(st.tuples(WORDS, PORTS), unique_by=lambda pair: pair[0], max_size=6).map(
    lambda pairs: [device(f"{name}.serial", port) for name, port in pairs]
)
RULES = st.none() | st.builds(
    GroupingRules,
    st.lists(
        st.builds(
            BoardRule, WORDS, st.lists(GLOBS, max_size=2).map(tuple), st.lists(WORDS, max_size=2).map(tuple)
        ),
        max_size=4,
    ).map(tuple),
    st.lists(GLOBS, max_size=2).map(tuple),
)


@given(WORDS, RULES, DEVICES)
def test_each_device_is_once_on_a_board_or_on_none_and_a_name_begins_with_the_hosts_once(
    host: str, rules: GroupingRules | None, devices: list[KnownDevice]
) -> None:
    boards, others = group_devices(host, rules, devices)
    everything = [one.path for board in boards.values() for one in board.devices]
    everything += [one.device.path for one in others]
    assert sorted(everything) == sorted(one.path for one in devices)
    for name, board in boards.items():
        assert board.name == name
        assert name == host or name.startswith(f"{host}-")
        assert name != f"{host}-{host}"
        assert len(name) <= 63
        assert board.labels["jumpstarter.dev/board"] in (name, name.removeprefix(f"{host}-"))


NAMES = st.sampled_from(["a", "b", "c", "d"])
GROUPINGS = st.dictionaries(st.sampled_from("123456"), NAMES)


@given(st.lists(st.tuples(GROUPINGS, st.sets(NAMES)), max_size=8))
def test_a_board_in_use_loses_no_device_and_gets_none_of_anothers_and_in_the_end_all_is_as_wanted(
    steps: list[tuple[dict[str, str], set[str]]],
) -> None:
    assignment = Assignment()
    before: dict[str, str] = {}
    for wanted, in_use in steps:
        now = dict(assignment.update(wanted, in_use))
        for board in in_use:
            had = {key for key, one in before.items() if one == board}
            has = {key for key, one in now.items() if one == board}
            assert had <= has
            assert not {key for key in has - had if key in before}
        for key, board in now.items():
            if board != wanted.get(key):
                assert board in assignment.waiting
                assert assignment.waiting & in_use
        moved = {key for key in now.keys() | wanted.keys() if now.get(key) != wanted.get(key)}
        for board in assignment.waiting:
            assert any(board in (now.get(key), wanted.get(key)) for key in moved), (
                "nothing is to change there"
            )
        assert wanted.keys() <= now.keys()
        before = now
    if steps:
        assert assignment.update(steps[-1][0], ()) == steps[-1][0]
        assert not assignment.waiting


def test_boards_that_exchange_devices_change_together() -> None:
    assignment = Assignment()
    assignment.update({"1": "a", "2": "b", "3": "c"}, ())
    wanted = {"1": "b", "2": "a", "3": "d"}
    assert assignment.update(wanted, {"b"}) == {"1": "a", "2": "b", "3": "d"}
    assert assignment.waiting == {"a", "b"}
    assert assignment.update(wanted, ()) == wanted


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("boards: {rpi4: {}}", "boards.rpi4: a board has `ports` or `devices`; write one of them"),
        ("boards: {rpi4: {prots: [1-1]}}", "unknown key 'prots'; did you mean 'ports'?"),
        (
            "boards: {rpi4: {ports: ['usb port 3']}}",
            "'usb port 3' is not a USB port; use one such as 1-1.4",
        ),
        (
            "boards: {Rpi 4: {ports: ['1-1']}}",
            "'Rpi 4' is not a valid name for a board; use lower-case letters",
        ),
        (f"boards: {{{'a' * 31}: {{ports: ['1-1']}}}}", "at most 30"),
        ("boards: {a: {devices: [x]}, b: {devices: [x]}}", "x is of the board a already; remove one of them"),
        ("boards: {a: {ports: ['1-1']}, pi4-a: {ports: ['1-2']}}", "a is the board pi4-a, too; give one"),
        ("boards: {a: {ports: ['1-1']}, a: {ports: ['1-2']}}", "'a'"),
        ("boards: [a]", "it takes names, with a board below each"),
        ("hubs: [upstairs]", "'upstairs' is not a USB port"),
        ("kind: Boards", "DiscoveredBoards"),
    ],
)
def test_a_mistake_in_boards_yaml_says_where_and_what(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_boards(Path("boards.yaml"), text.encode(), "pi4")
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("boards.yaml:1:")


def test_a_boards_name_may_have_thirty_letters() -> None:
    text = f"boards: {{{'a' * 30}: {{ports: ['1-1']}}}}"
    (rule,) = parse_boards(Path("boards.yaml"), text.encode(), "pi4").boards
    assert rule.name == "a" * 30


def test_boards_yaml_is_read() -> None:
    text = b"boards:\n  rpi4: {ports: [1-1.4.*], devices: [relay-1]}\nhubs: [2-1]\n"
    assert parse_boards(Path("boards.yaml"), text, "pi4") == GroupingRules(
        (BoardRule("rpi4", ("1-1.4.*",), ("relay-1",)),), ("2-1",)
    )
