"""A host gives its own names to its boards, sets the labels that it may, and goes with all of them."""

from __future__ import annotations

import re
import string
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.lab.v1 import boards_pb2, exporter_pb2, exporters_pb2, lab_pb2
from jumpstarter_proto.remote import WAITS_FOR_BOARD, Identity, Kind
from jumpstarter_proto.rpc import ClientCall, RpcError, StatusCode
from jumpstarter_proto.v1 import jumpstarter_pb2 as pb
from msgspec.structs import replace

from jumpstarter_controller import lab as records
from jumpstarter_controller.lab import Exporter, Host, Key
from jumpstarter_controller.services import host_boards
from jumpstarter_controller.services.conftest import ANN, Lab

PI4 = Key("default", "pi4")
GIVEN = Host(namespace="default", name="pi4", uid="h", may_label=("board", "host", "team"))
NAMES = st.text(string.ascii_lowercase + "-", min_size=1, max_size=8)


async def board(lab: Lab, host: Identity, name: str = "pi4", /, **labels: str) -> Identity:
    """Registers a board, and is its exporter."""
    request = boards_pb2.RegisterBoardRequest(name=name, labels=labels)
    credential = await lab.boards.RegisterBoard(request, metadata=host.metadata())
    assert (credential.kind, credential.name) == ("Exporter", name)
    return lab.identity(credential.token, Kind.EXPORTER, Key("default", name))


async def available(lab: Lab, one: Identity) -> None:
    register = pb.RegisterRequest(
        reports=[pb.DriverInstanceReport(uuid="1")], labels={"jumpstarter.dev/host": "x"}
    )
    await lab.controller.Register(register, metadata=one.metadata())
    await lab.report(one, "AVAILABLE")


def exporter(lab: Lab, name: str = "pi4") -> Exporter | None:
    return lab.reconciler.committed.get(Exporter, Key("default", name))


async def leased(lab: Lab, ann: Identity, *marks: str, **wish: str) -> client_pb2.Lease:
    asked = client_pb2.Lease(**wish)  # type: ignore[arg-type]
    asked.duration.seconds = 600
    request = client_pb2.CreateLeaseRequest(parent="namespaces/default", lease=asked)
    metadata = [*ann.metadata(), *((mark, "1") for mark in marks)]
    return await lab.client.CreateLease(request, metadata=metadata)


def reason(lease: client_pb2.Lease) -> str:
    return f"{lease.conditions[-1].type} {lease.conditions[-1].reason}: {lease.conditions[-1].message}"


async def test_a_board_is_leased_by_the_labels_that_it_gets(lab: Lab) -> None:
    host, ann = await lab.made(Kind.HOST, PI4), await lab.made(Kind.CLIENT, ANN)
    await available(lab, await board(lab, host, "pi4-rpi", **{"jumpstarter.dev/interface-power": "true"}))
    record = exporter(lab, "pi4-rpi")
    assert record is not None
    assert record.labels == {
        "host": "pi4",
        "board": "rpi",
        "jumpstarter.dev/host": "pi4",
        "jumpstarter.dev/board": "rpi",
        "jumpstarter.dev/interface-power": "true",
    }
    assert (await leased(lab, ann, selector="host=pi4")).exporter.endswith("/pi4-rpi")
    details = await lab.details.GetExporterDetails(
        exporters_pb2.GetExporterDetailsRequest(name="pi4-rpi"), metadata=ann.metadata()
    )
    assert (details.host, details.HasField("gone_since")) == ("pi4", False)
    (shown,) = (await lab.admin.List(lab_pb2.ListRequest(kind="Host"))).objects
    assert (list(shown.boards), list(shown.may_label)) == (["pi4-rpi"], ["board", "host"])


async def test_registering_again_changes_nothing_but_labels_and_both_tokens_count(lab: Lab) -> None:
    host = await lab.made(Kind.HOST, PI4)
    first, before = await board(lab, host), exporter(lab)
    assert before is not None
    second = await board(lab, host, board="rpi4")
    for one in (first, second):
        await available(lab, one)
    after = exporter(lab)
    assert after is not None
    assert (after.uid, after.labels["board"], before.labels["board"]) == (before.uid, "rpi4", "pi4")
    await board(lab, host)
    assert (exporter(lab) or after).labels["board"] == "pi4"


async def test_what_is_not_the_hosts_to_say_is_refused_and_says_what_to_do(lab: Lab) -> None:
    host, other = await lab.made(Kind.HOST, PI4), await lab.made(Kind.HOST, Key("default", "pi4-lab"))
    await lab.made(Kind.EXPORTER, Key("default", "pi4-own"))
    await board(lab, other, "pi4-lab")
    await lab.admin.ChangeHost(
        lab_pb2.ChangeHostRequest(
            namespace="default", name="pi4", labels={"site": "berlin"}, may_label=["host"]
        )
    )
    for name, labels, code, sentence in (
        ("pi5", {}, "PERMISSION_DENIED", "its boards are called pi4 or pi4-SOMETHING"),
        ("pi4x", {}, "PERMISSION_DENIED", "not a name of host pi4's"),
        ("pi4-lab", {}, "PERMISSION_DENIED", "is a name of host pi4-lab's"),
        ("pi4-lab-2", {}, "PERMISSION_DENIED", "is a name of host pi4-lab's"),
        (
            "pi4-own",
            {},
            "PERMISSION_DENIED",
            "a board without an owner, not host pi4's; .* admin exporter delete pi4-own",
        ),
        ("pi4-a b", {}, "INVALID_ARGUMENT", "is not a name"),
        ("", {}, "INVALID_ARGUMENT", "is not a name"),
        ("pi4", {"team": "a"}, "PERMISSION_DENIED", "label team; .* admin host change pi4 --may-label team"),
        ("pi4", {"board": "a"}, "PERMISSION_DENIED", "--may-label board"),
        ("pi4", {"host": "pi5"}, "PERMISSION_DENIED", "is 'pi4', and not 'pi5'"),
        ("pi4", {"site": "rome"}, "PERMISSION_DENIED", "'berlin' on all boards of host pi4"),
        ("pi4", {"jumpstarter.dev/host": "pi5"}, "PERMISSION_DENIED", "set by rule"),
        ("pi4", {"jumpstarter.dev/interfacex": "a"}, "PERMISSION_DENIED", "set by rule"),
        ("pi4", {"a b": "c"}, "INVALID_ARGUMENT", "label key"),
        ("pi4", {"host": "a b"}, "INVALID_ARGUMENT", "not allowed"),
        ("pi4", {f"k{n}": "" for n in range(65)}, "INVALID_ARGUMENT", "at most 64"),
    ):
        with pytest.raises(RpcError, match=sentence) as caught:
            await board(lab, host, name, **labels)
        assert caught.value.code is StatusCode[code], (name, labels)
    assert exporter(lab) is None
    await board(lab, host, "pi4", site="berlin", host="pi4")
    with pytest.raises(RpcError, match="is host pi4-lab's, not host pi4's"):
        await lab.boards.RetireBoard(boards_pb2.RetireBoardRequest(name="pi4-lab"), metadata=host.metadata())


@given(names=st.lists(st.tuples(NAMES, NAMES), max_size=6), hosts=st.sets(NAMES, min_size=1, max_size=4))
def test_no_two_hosts_can_have_one_name(names: list[tuple[str, str]], hosts: set[str]) -> None:
    lab = records.Draft()
    for name in hosts:
        lab.put(replace(GIVEN, name=name))
    had: dict[str, str] = {}
    for host, rest in names:
        for name in (host, f"{host}-{rest}"):
            for one in list(lab.all(Host)):
                try:
                    made = host_boards.register_board(lab, 0.0, one, name, {})
                except RpcError:
                    continue
                assert name == one.name or name.startswith(f"{one.name}-")
                assert had.setdefault(name, one.name) == one.name == made.host


@given(
    said=st.dictionaries(
        st.sampled_from(
            [
                "host",
                "board",
                "team",
                "site",
                "x",
                "jumpstarter.dev/host",
                "jumpstarter.dev/vendor-ftdi",
                "a.b/c",
            ]
        ),
        st.sampled_from(["pi4", "berlin", "other"]),
    ),
    granted=st.sets(st.sampled_from(["host", "board", "team", "a.b/c", "site"])),
    later=st.sets(st.sampled_from(["host", "board", "team"])),
)
def test_a_board_never_has_a_label_that_nobody_let_it_have(
    said: dict[str, str], granted: set[str], later: set[str]
) -> None:
    lab = records.Draft()
    host = replace(GIVEN, may_label=tuple(sorted(granted)), labels={"site": "berlin"})
    lab.put(host)
    try:
        made = host_boards.register_board(lab, 0.0, host, "pi4-a", said)
    except RpcError:
        made = host_boards.register_board(lab, 0.0, host, "pi4-a", {})
    for may in (granted, later):
        if may is later:
            host_boards.change_host(lab, host, {"site": "berlin"}, tuple(sorted(later)))
            made = lab.get(Exporter, made.key) or made
        assert made.labels["jumpstarter.dev/host"] == "pi4"
        assert made.labels["site"] == "berlin"
        assert made.labels.get("host", "pi4") == "pi4"
        rest = made.labels.keys() - {"site"}
        assert {key for key in rest if not key.startswith("jumpstarter.dev/")} <= may
        assert made.labels.keys() >= may & {"host", "board"}


async def deleted(lab: Lab, whom: lab_pb2.ObjectRequest) -> None:
    await lab.admin.Delete(whom)


async def rotated(lab: Lab, whom: lab_pb2.ObjectRequest) -> None:
    await lab.admin.Rotate(whom)


@pytest.mark.parametrize("taken", [deleted, rotated])
async def test_with_its_host_a_boards_token_and_streams_end(
    lab: Lab, taken: Callable[[Lab, lab_pb2.ObjectRequest], Awaitable[object]]
) -> None:
    host, other = await lab.made(Kind.HOST, PI4), await lab.made(Kind.HOST, Key("default", "pi5"))
    mine, theirs = await board(lab, host, "pi4-a"), await board(lab, other, "pi5")
    async with lab.exporter.WatchAssignment(
        exporter_pb2.WatchAssignmentRequest(), metadata=mine.metadata()
    ) as watch:
        await watch.receive()
        await taken(lab, lab_pb2.ObjectRequest(kind="Host", namespace="default", name="pi4"))
        with pytest.raises(RpcError, match="was deleted or has a new token") as caught:
            await watch.receive()
        assert caught.value.code is StatusCode.UNAUTHENTICATED
    with pytest.raises(RpcError):
        await available(lab, mine)
    with pytest.raises(RpcError):
        await board(lab, host)
    await available(lab, theirs)
    assert (exporter(lab, "pi4-a") is None) == (taken is deleted)


async def test_a_board_that_is_gone_is_shown_and_not_leased_until_it_is_back(lab: Lab) -> None:
    host, ann = await lab.made(Kind.HOST, PI4), await lab.made(Kind.CLIENT, ANN)
    one = await board(lab, host)
    await available(lab, one)
    retire = boards_pb2.RetireBoardRequest(name="pi4")
    await lab.boards.RetireBoard(retire, metadata=host.metadata())
    await lab.boards.RetireBoard(boards_pb2.RetireBoardRequest(name="pi4-none"), metadata=host.metadata())
    await lab.controller.Unregister(pb.UnregisterRequest(reason="bye"), metadata=one.metadata())
    shown = await lab.client.GetExporter(
        client_pb2.GetExporterRequest(name="namespaces/default/exporters/pi4"), metadata=ann.metadata()
    )
    assert re.fullmatch("gone since 1970-.* UTC: host pi4 has no such board any more", shown.status_message)
    (listed,) = (await lab.admin.List(lab_pb2.ListRequest(kind="Exporter"))).objects
    assert listed.HasField("gone_since")
    assert "no exporter matches host=pi4" in reason(await leased(lab, ann, selector="host=pi4"))
    assert "ExporterNotFound: exporter pi4 is gone since" in reason(
        await leased(lab, ann, exporter_name="pi4")
    )
    await available(lab, await board(lab, host))
    assert (await leased(lab, ann, selector="host=pi4")).exporter


async def test_a_board_that_was_deleted_comes_back_as_somebody_new(lab: Lab) -> None:
    host = await lab.made(Kind.HOST, PI4)
    old = await board(lab, host)
    await lab.admin.Delete(lab_pb2.ObjectRequest(kind="Exporter", namespace="default", name="pi4"))
    new = await board(lab, host)
    await available(lab, new)
    with pytest.raises(RpcError):
        await available(lab, old)


async def test_a_host_has_a_bounded_number_of_boards_and_of_calls(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(host_boards, "MAX_BOARDS", 3)
    host, other = await lab.made(Kind.HOST, PI4), await lab.made(Kind.HOST, Key("default", "pi5"))
    for number in range(3):
        await board(lab, host, f"pi4-{number}")
    with pytest.raises(RpcError, match="may have no more; delete those that are gone") as caught:
        await board(lab, host, "pi4-3")
    assert caught.value.code is StatusCode.RESOURCE_EXHAUSTED
    retire = boards_pb2.RetireBoardRequest(name="pi4-0")
    for _ in range(300 - 4):
        await lab.boards.RetireBoard(retire, metadata=host.metadata())
    with pytest.raises(RpcError, match="300 times a minute; try again in 60 s"):
        await lab.boards.RetireBoard(retire, metadata=host.metadata())
    await board(lab, other, "pi5")
    await trio.sleep(60)
    await board(lab, host, "pi4-1")


def test_a_host_that_says_the_same_again_changes_nothing_and_a_board_that_is_back_has_not_connected() -> None:
    lab, reasons = records.Draft(), (records.UnavailableReason("local-use"),)
    lab.put(GIVEN)
    made = host_boards.register_board(lab, 0.0, GIVEN, "pi4-a", {"team": "x"})
    there = replace(made, devices=3, status=records.ExporterStatus.AFTER_LEASE_HOOK, reasons=reasons)
    lab.put(there)
    host_boards.register_board(lab, 1.0, GIVEN, "pi4-a", {"team": "x"})
    assert lab.get(Exporter, made.key) is there
    host_boards.retire_board(lab, 2.0, GIVEN, "pi4-a")
    gone = lab.get(Exporter, made.key)
    assert gone is not None
    assert (gone.devices, gone.reasons, gone.gone_since) == (0, (), 2.0)
    assert gone.status is records.ExporterStatus.OFFLINE
    host_boards.retire_board(lab, 3.0, GIVEN, "pi4-a")
    assert lab.get(Exporter, made.key) is gone, "it is gone since then"
    back = host_boards.register_board(lab, 4.0, GIVEN, "pi4-a", {"team": "x"})
    assert (back.gone_since, back.status_message) == (None, "it has not connected yet")
    lab.put(replace(GIVEN, namespace="other", name="pi4-a"))
    host_boards.register_board(lab, 5.0, GIVEN, "pi4-a-b", {})
    keys = [f"k{number}" for number in range(host_boards.MAX_GRANTS + 1)]
    with pytest.raises(RpcError, match="at most 64 keys"):
        host_boards.check_grants(keys)
    assert host_boards.check_grants([*keys[1:], "k1"]) == tuple(sorted(keys[1:]))


async def test_only_hosts_register_boards(lab: Lab) -> None:
    for kind in (Kind.CLIENT, Kind.EXPORTER):
        one = await lab.made(kind, PI4)
        with pytest.raises(RpcError, match="this call is for a Host"):
            await board(lab, one)
        claims = Identity(Kind.HOST, "default", "pi4", one.token)
        with pytest.raises(RpcError, match="host default/pi4"):
            await board(lab, claims)
    await lab.made(Kind.HOST, PI4)
    with pytest.raises(RpcError, match="permission denied for host"):
        await board(lab, claims)


@pytest.mark.parametrize("wish", [{"selector": "host=pi4"}, {"exporter_name": "pi4-a"}])
async def test_who_waits_for_a_board_gets_it_when_it_appears(lab: Lab, wish: dict[str, str]) -> None:
    host, ann = await lab.made(Kind.HOST, PI4), await lab.made(Kind.CLIENT, ANN)
    at_once = await leased(lab, ann, **wish)
    assert reason(at_once).startswith("Unsatisfiable "), "as with Jumpstarter's own controller"
    lease = await leased(lab, ann, WAITS_FOR_BOARD, **wish)
    assert reason(lease).startswith("Pending NoBoardYet: no such board yet: ")
    await available(lab, await board(lab, host, "pi4-a"))
    get = client_pb2.GetLeaseRequest(name=lease.name)
    assert (await lab.client.GetLease(get, metadata=ann.metadata())).exporter.endswith("/pi4-a")


async def test_a_board_that_it_may_not_have_ends_no_wait_for_one_that_it_may(lab: Lab) -> None:
    host, ann = await lab.made(Kind.HOST, PI4), await lab.made(Kind.CLIENT, ANN)
    policy = lab_pb2.Policy(namespace="default", name="p", exporters="board!=secret")
    policy.rules.add(clients=[""])
    await lab.admin.ApplyPolicies(lab_pb2.ApplyPoliciesRequest(policies=[policy]))
    lease = await leased(lab, ann, WAITS_FOR_BOARD, selector="host=pi4")
    get = client_pb2.GetLeaseRequest(name=lease.name)
    await available(lab, await board(lab, host, "pi4-secret"))
    assert "no access policy lets client ann" in reason(
        await lab.client.GetLease(get, metadata=ann.metadata())
    )
    await available(lab, await board(lab, host, "pi4-a"))
    assert (await lab.client.GetLease(get, metadata=ann.metadata())).exporter.endswith("/pi4-a")


async def to_the_end(call: ClientCall[Any, Any]) -> None:
    async for _ in call:
        pass
