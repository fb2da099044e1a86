from __future__ import annotations

from typing import cast

import pytest
from jumpstarter_proto.v1 import jumpstarter_pb2

from jumpstarter_client.command_errors import UnknownDeviceError, UsageError
from jumpstarter_client.connection import ExporterConnection
from jumpstarter_client.devices.selection import find, select
from jumpstarter_client.errors import ConnectError, DriverError
from jumpstarter_client.node import Allowed, Node
from jumpstarter_client.pytest_plugin.boards import select_worker_board
from jumpstarter_client.tree import build_tree

POWER = "jumpstarter_driver_power.client.PowerClient"
GROUP = "jumpstarter_driver_composite.client.CompositeClient"
NOWHERE = cast("ExporterConnection", None)

Row = tuple[str, str, str, str]


def report(*rows: Row, name: str = "") -> jumpstarter_pb2.GetReportResponse:
    """Rows of uuid, parent's uuid, name and client class."""
    response = jumpstarter_pb2.GetReportResponse()
    if name:
        response.labels["jumpstarter.dev/name"] = name
    for uuid, parent, own, client in rows:
        entry = response.reports.add(uuid=uuid, parent_uuid=parent or None)
        entry.labels["jumpstarter.dev/client"] = client
        if own:
            entry.labels["jumpstarter.dev/name"] = own
    return response


LAB = report(
    ("0", "", "", GROUP),
    ("1", "0", "rpi4", GROUP),
    ("2", "1", "power", POWER),
    ("3", "0", "rpi5", GROUP),
    ("4", "3", "power", POWER),
    ("2", "0", "spare", POWER),
    name="lab-1",
)


def tree(response: jumpstarter_pb2.GetReportResponse = LAB, allowed: Allowed | None = None) -> Node:
    return build_tree(response, NOWHERE, allowed or Allowed())


def test_a_device_under_two_names_stands_in_both_places() -> None:
    root = tree()
    assert [node.path for node in root.walk()] == ["", "rpi4", "rpi4.power", "rpi5", "rpi5.power", "spare"]
    assert root.children["spare"].uuid == root.children["rpi4"].children["power"].uuid


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "no devices"),
        ([("1", "9", "a", POWER)], "without a parent"),
        ([("0", "", "", GROUP), ("1", "0", "", POWER)], "without a name"),
        ([("0", "", "", GROUP), ("1", "", "", GROUP)], "two roots"),
        ([("0", "", "", GROUP), *((str(n), "0", f"d{n}", POWER) for n in range(1, 4097))], "more than 4096"),
        ([("0", "", "", GROUP), *((str(n), str(n - 1), "d", GROUP) for n in range(1, 34))], "deeper than 32"),
        ([("0", "", "", GROUP), ("1", "0", "x" * 256, POWER)], "name of more than 255"),
    ],
)
def test_a_report_that_is_not_a_tree_is_rejected(rows: list[Row], words: str) -> None:
    with pytest.raises(ConnectError, match=words):
        tree(report(*rows))


@pytest.mark.parametrize(
    ("token", "paths"),
    [
        ("rpi4.power", ["rpi4.power"]),
        ("rpi4", ["rpi4.power"]),
        ("spare", ["spare"]),
        ("power", ["rpi4.power", "rpi5.power"]),
        ("lab-1", ["rpi4.power", "rpi5.power"]),
        ("rpi6", []),
        ("RPI4", []),
    ],
)
def test_a_word_means_a_path_a_name_or_what_is_below(token: str, paths: list[str]) -> None:
    assert [node.path for node in find(tree(), "power", token)] == paths


def test_a_device_is_taken_from_the_front_or_from_behind_the_options() -> None:
    node, rest = select(tree(), "power", ["rpi5", "--wait", "1"], takes_arguments=True)
    assert (node.path, rest) == ("rpi5.power", ["--wait", "1"])
    node, rest = select(tree(), "power", ["--wait", "1", "rpi5"], takes_arguments=True)
    assert (node.path, rest) == ("rpi5.power", ["--wait", "1"])


def test_a_second_name_makes_a_device_no_less_the_only_one() -> None:
    root = tree(report(("0", "", "", GROUP), ("1", "0", "power", POWER), ("1", "0", "copy", POWER)))
    assert select(root, "power", [], takes_arguments=False)[0].path == "power"
    assert select(root, "power", ["copy"], takes_arguments=False)[0].path == "copy"


def test_the_only_device_need_not_be_named_and_other_words_are_the_verbs() -> None:
    one = tree(report(("0", "", "", GROUP), ("1", "0", "power", POWER)))
    assert select(one, "power", [], takes_arguments=False)[0].path == "power"
    assert select(one, "power", ["image.img"], takes_arguments=True)[1] == ["image.img"]
    with pytest.raises(UnknownDeviceError, match="there is power"):
        select(one, "power", ["rpi9"], takes_arguments=False)


def test_what_is_unclear_or_unknown_is_answered_with_what_there_is() -> None:
    with pytest.raises(UsageError, match=r"rpi4\.power, rpi5\.power"):
        select(tree(), "power", ["power"], takes_arguments=False)
    with pytest.raises(UsageError, match="several devices"):
        select(tree(), "power", [], takes_arguments=False)
    with pytest.raises(UnknownDeviceError, match="'serial'; the board has power"):
        select(tree(), "serial", ["rpi4"], takes_arguments=False)


@pytest.mark.parametrize("client", ["", GROUP])
def test_a_device_that_the_exporter_could_not_make_is_answered_with_its_reason(client: str) -> None:
    reported = report(
        ("0", "", "", GROUP),
        ("1", "0", "rpi4", GROUP),
        ("2", "1", "power", client),
        ("3", "0", "spare", POWER),
    )
    reported.reports[2].labels.update(
        {
            "jumpstarter.dev/state": "failed",
            "jumpstarter.dev/reason": "lab.yaml:9:3: unknown type 'power.Rely'",
        }
    )
    root = tree(reported)
    for word in ("power", "rpi4.power"):
        with pytest.raises(
            UnknownDeviceError, match=r"it has failed: lab\.yaml:9:3: unknown type 'power.Rely'"
        ):
            select(root, "power", [word], takes_arguments=False)
    assert select(root, "power", ["spare"], takes_arguments=False)[0].path == "spare"


def test_our_classes_are_always_allowed_and_others_only_by_pattern() -> None:
    assert Allowed().load(POWER).__name__ == "PowerClient"
    foreign = "some_lab.client.FanClient"
    with pytest.raises(DriverError, match="JMP_DRIVERS_ALLOW=some_lab"):
        Allowed(["other.*"]).load(foreign)
    with pytest.raises(DriverError, match="install 'some_lab'"):
        Allowed(["some_lab.*"]).load(foreign)
    with pytest.raises(DriverError, match="not made for this client"):
        Allowed(unsafe=True).load("collections.OrderedDict")


def test_allowed_classes_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JMP_DRIVERS_ALLOW", "a.*, UNSAFE")
    with pytest.raises(DriverError, match="install 'b'"):
        Allowed.from_environment().load("b.C")


def test_a_class_that_cannot_be_loaded_is_a_stub_that_explains_itself_when_used() -> None:
    root = tree(report(("0", "", "", GROUP), ("1", "0", "fan", "some_lab.client.FanClient")))
    stub = root.children["fan"].client
    with pytest.raises(DriverError, match="fan cannot be used"):
        stub.call_async("on").send(None)


def test_what_a_process_left_out_does_not_come_back_with_the_next_report() -> None:
    root = tree()
    select_worker_board(root, 1, 2)
    assert set(root.children) == {"rpi5", "spare"}
    fresh = report(
        *[
            (entry.uuid, entry.parent_uuid, entry.labels["jumpstarter.dev/name"], POWER)
            for entry in LAB.reports
        ],
        ("5", "0", "rock", GROUP),
        ("6", "5", "power", POWER),
        ("7", "0", "camera", POWER),
    )
    root.update(tree(fresh))
    assert set(root.children) == {"rpi5", "spare", "camera"}, "a board that is new has nobody yet"


def test_a_device_is_what_the_next_report_says_and_is_there_again_when_it_comes_back() -> None:
    root = tree()
    board, power = root.children["rpi4"], root.children["rpi4"].children["power"]
    without = report(("9", "", "", GROUP), ("10", "9", "rpi4", GROUP), ("11", "10", "camera", POWER))
    without.reports[1].description = "the new one"
    without.reports[1].methods_description["on"] = "Switch it on."
    without.reports[1].labels["jumpstarter.dev/soc"] = "bcm2712"
    root.update(tree(without))
    assert (root.uuid, board.uuid, board.description) == ("9", "10", "the new one")
    assert board.methods_description == {"on": "Switch it on."}
    assert board.labels["jumpstarter.dev/soc"] == "bcm2712"
    camera = board.children["camera"]
    assert (camera.path, camera.parent, camera.uuid) == ("rpi4.camera", board, "11")
    for gone in (
        power,
        root.children["rpi5"],
        root.children["rpi5"].children["power"],
        root.children["spare"],
    ):
        with pytest.raises(DriverError, match="is gone: the exporter no longer has it"):
            _ = gone.uuid
    root.update(tree())
    assert (power.uuid, root.children["rpi5"].children["power"].uuid) == ("2", "4")
    assert (board.description, board.methods_description) == (None, {})
    assert "jumpstarter.dev/soc" not in board.labels
    with pytest.raises(DriverError, match=r"rpi4\.camera is gone"):
        _ = camera.uuid
