"""LabService.Watch: what is so, then each change of it, for those who may see it and at their speed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from google.protobuf import duration_pb2
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.lab.v1 import exporters_pb2 as pb
from jumpstarter_proto.lab.v1 import lab_pb2
from jumpstarter_proto.remote import WAITS, Identity, Kind
from jumpstarter_proto.rpc import ClientCall, RpcError, StatusCode
from jumpstarter_proto.v1 import jumpstarter_pb2

from jumpstarter_controller.lab import Draft, Exporter, Key, Lease
from jumpstarter_controller.scheduling import WAITER_SECONDS, WATCHED_SECONDS
from jumpstarter_controller.services import lab_service, lab_watch
from jumpstarter_controller.services.conftest import ANN, ONE, Lab

BOB = Key("default", "bob")


class Reader:
    """One who watches, and what they know."""

    def __init__(self, call: ClientCall[pb.WatchRequest, pb.LabNews]) -> None:
        self.call = call
        self.exporters: dict[str, client_pb2.Exporter] = {}
        self.leases: dict[str, pb.LeaseNews] = {}
        self.messages: list[pb.LabNews] = []

    async def next(self) -> pb.LabNews:
        """Take everything until the reader knows all of one moment; the last message."""
        with trio.fail_after(200):
            while True:
                message = await self.call.receive()
                self.messages.append(message)
                if message.snapshot:
                    self.exporters.clear()
                    self.leases.clear()
                self.exporters.update({one.name.rpartition("/")[2]: one for one in message.exporters})
                self.leases.update({one.lease.name.rpartition("/")[2]: one for one in message.leases})
                for name in message.gone_exporters:
                    del self.exporters[name]
                for name in message.gone_leases:
                    del self.leases[name]
                if message.revision:
                    return message

    async def until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            await self.next()


@asynccontextmanager
async def watching(lab: Lab, who: Identity, **wish: Any) -> AsyncIterator[Reader]:
    async with lab.details.Watch(pb.WatchRequest(**wish), metadata=who.metadata()) as call:
        yield Reader(call)


async def asked(lab: Lab, who: Identity, name: str, *, waits: bool = False) -> client_pb2.Lease:
    lease = client_pb2.Lease(exporter_name="one", duration=duration_pb2.Duration(seconds=600))
    request = client_pb2.CreateLeaseRequest(parent="namespaces/default", lease_id=name, lease=lease)
    metadata = [*who.metadata(), *([(WAITS, "1")] if waits else [])]
    return await lab.client.CreateLease(request, metadata=metadata)


async def released(lab: Lab, who: Identity, name: str) -> None:
    request = client_pb2.DeleteLeaseRequest(name=f"namespaces/default/leases/{name}")
    await lab.client.DeleteLease(request, metadata=who.metadata())


def condition(news: pb.LeaseNews) -> str:
    return news.lease.conditions[-1].message


@pytest.fixture
async def ann(lab: Lab) -> Identity:
    return await lab.made(Kind.CLIENT, ANN)


@pytest.fixture
async def bob(lab: Lab) -> Identity:
    return await lab.made(Kind.CLIENT, BOB)


@pytest.fixture
async def one(lab: Lab, ann: Identity) -> AsyncIterator[Identity]:
    """An exporter that ann has leased."""
    exporter = await lab.made(Kind.EXPORTER, ONE)
    await lab.leased(ann, exporter)
    async with lab.controller.Status(jumpstarter_pb2.StatusRequest(), metadata=exporter.metadata()) as call:
        await call.receive()
        yield exporter


async def test_exporters_and_who_has_them_until_when(
    lab: Lab, ann: Identity, bob: Identity, one: Identity
) -> None:
    async with watching(lab, bob, exporters=True, leases=pb.LEASE_SCOPE_HELD) as reader:
        first = await reader.next()
        assert first.snapshot
        assert set(reader.exporters) == {"one"}
        assert set(reader.leases) == {"mine"}
        assert reader.leases["mine"].lease.client.endswith("/ann")
        await released(lab, ann, "mine")
        await reader.next()
        assert reader.leases["mine"].lease.HasField("effective_end_time")
        await lab.report(one, "AVAILABLE")
        await asked(lab, bob, "his")
        await reader.until(lambda: "his" in reader.leases)
        assert reader.leases["his"].lease.exporter
        assert not any(message.snapshot for message in reader.messages[1:])


async def test_nobody_is_told_of_another_namespace(lab: Lab, one: Identity) -> None:
    stranger = await lab.made(Kind.CLIENT, Key("elsewhere", "eve"))
    async with watching(lab, stranger, exporters=True, leases=pb.LEASE_SCOPE_ALL) as reader:
        await reader.next()
        await lab.report(one, "LEASE_READY")
        await lab.made(Kind.EXPORTER, Key("elsewhere", "two"))
        await reader.next()
        assert (set(reader.exporters), reader.leases) == ({"two"}, {})
    with pytest.raises(RpcError, match="not found"):
        async with watching(lab, stranger, lease="mine") as reader:
            await reader.next()


async def test_nobody_is_told_of_a_lease_of_another_namespace_that_was_soon_over(
    lab: Lab, ann: Identity, one: Identity, mock_clock: trio.testing.MockClock
) -> None:
    stranger = await lab.made(Kind.CLIENT, Key("elsewhere", "eve"))
    async with watching(lab, stranger, exporters=True, leases=pb.LEASE_SCOPE_ALL) as reader:
        await reader.next()
        await asked(lab, ann, "short")
        await released(lab, ann, "short")
        await lab.made(Kind.EXPORTER, Key("elsewhere", "two"))
        mock_clock.jump(lab_watch.PAUSE_SECONDS)
        await reader.next()
        assert (set(reader.exporters), reader.leases) == ({"two"}, {})


async def test_who_does_not_call_as_a_client_is_told_nothing(lab: Lab, one: Identity) -> None:
    for metadata in ((), one.metadata()):
        with pytest.raises(RpcError):
            async with lab.details.Watch(pb.WatchRequest(exporters=True), metadata=metadata) as call:
                await call.receive()


async def test_only_leases_of_ones_own_and_their_places_in_the_queue(
    lab: Lab, ann: Identity, bob: Identity, one: Identity, mock_clock: trio.testing.MockClock
) -> None:
    mock_clock.rate = 1
    for name in ("first", "second"):
        await asked(lab, ann, name)
    await asked(lab, bob, "his")
    async with watching(lab, bob, leases=pb.LEASE_SCOPE_OWN) as reader:
        await reader.next()
        assert set(reader.leases) == {"his"}
        assert reader.leases["his"].place == 3
        assert reader.leases["his"].at_the_latest.seconds in range(1790, 1801)
        assert "number 3 in the queue, at the latest in 30 min" in condition(reader.leases["his"])
        await released(lab, ann, "first")
        await reader.next()
        assert "number 2 in the queue, at the latest in 20 min" in condition(reader.leases["his"])
        mock_clock.rate = 50  # time alone changes it
        await reader.until(lambda: "at the latest in 19 min" in condition(reader.leases["his"]))


async def test_who_comes_back_gets_what_has_changed_and_who_asks_for_something_else_gets_all(
    lab: Lab, ann: Identity, one: Identity
) -> None:
    await lab.made(Kind.EXPORTER, Key("default", "two"))
    async with watching(lab, ann, exporters=True) as reader:
        revision = (await reader.next()).revision
    await lab.report(one, "LEASE_READY")
    async with watching(lab, ann, exporters=True, after=revision) as reader:
        message = await reader.next()
        assert not message.snapshot
        assert set(reader.exporters) == {"one"}
    async with watching(lab, ann, exporters=True, after=message.revision) as reader:
        same = await reader.next()
        assert (same.snapshot, len(same.exporters), bool(same.revision)) == (False, 0, True), "it is there"
    for wish in (
        {"exporters": True, "leases": pb.LEASE_SCOPE_OWN},
        {"exporters": True, "exporter_filter": "a=b"},
    ):
        async with watching(lab, ann, **wish, after=revision) as reader:
            assert (await reader.next()).snapshot


@pytest.mark.parametrize("revision", ["", "x", "0.0.0", "\0", "9" * 1000, "٣.٣.٣"])
async def test_a_revision_that_is_none_gets_a_snapshot(
    lab: Lab, ann: Identity, one: Identity, revision: str
) -> None:
    async with watching(lab, ann, exporters=True, after=revision) as reader:
        assert (await reader.next()).snapshot
        assert set(reader.exporters) == {"one"}


@pytest.mark.parametrize(
    ("wish", "why"),
    [
        ({}, "nothing to watch"),
        ({"leases": 9}, "9 is not a lease scope"),
        ({"lease": "mine", "exporters": True}, "with nothing else"),
        ({"exporters": True, "waits": True}, "with nothing else"),
        ({"exporters": True, "exporter_filter": "a in b"}, "a in b"),
    ],
)
async def test_what_is_not_a_wish_is_rejected_in_a_sentence(
    lab: Lab, ann: Identity, wish: dict[str, Any], why: str
) -> None:
    with pytest.raises(RpcError, match=why) as refused:
        async with watching(lab, ann, **wish) as reader:
            await reader.next()
    assert refused.value.code is StatusCode.INVALID_ARGUMENT


async def test_what_changes_together_is_one_message(
    lab: Lab, ann: Identity, one: Identity, mock_clock: trio.testing.MockClock
) -> None:
    async with watching(lab, ann, exporters=True) as reader:
        await reader.next()
        for number in range(5):
            await lab.made(Kind.EXPORTER, Key("default", f"e{number}"))
        mock_clock.jump(lab_watch.PAUSE_SECONDS)
        await reader.next()
        assert len(reader.exporters) == 6


async def test_a_client_may_watch_so_often_at_a_time(
    lab: Lab, ann: Identity, bob: Identity, one: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab_service, "MAX_WATCHES", 2)
    for _ in range(3):
        async with (
            watching(lab, ann, exporters=True) as first,
            watching(lab, ann, exporters=True) as second,
        ):
            for reader in (first, second):
                await reader.next()
            with pytest.raises(RpcError, match="watches 2 times already") as refused:
                async with watching(lab, ann, exporters=True) as third:
                    await third.next()
            assert refused.value.code is StatusCode.RESOURCE_EXHAUSTED
            async with (
                watching(lab, ann, lease="mine") as other,
                watching(lab, bob, exporters=True) as his,
            ):
                await other.next()
                await his.next()
                assert lab.reconciler.counters.watches == 4
        await trio.testing.wait_all_tasks_blocked()
        assert lab.reconciler.counters.watches == 0


async def test_a_client_that_loses_its_token_is_told_no_more(lab: Lab, ann: Identity, one: Identity) -> None:
    async with watching(lab, ann, exporters=True) as reader:
        await reader.next()
        await lab.admin.Delete(lab_pb2.ObjectRequest(kind="Client", namespace="default", name="ann"))
        with pytest.raises(RpcError, match="deleted") as ended:
            await reader.until(lambda: False)
    assert ended.value.code is StatusCode.UNAUTHENTICATED


async def test_a_lab_is_told_of_in_pages_and_a_reader_who_is_too_slow_gets_it_anew(
    lab: Lab, ann: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what it has not read it holds nothing here but a page of it."""
    monkeypatch.setattr(lab_watch, "PAGE_SIZE", 20_000)
    count, rounds, text = 300, 8, "x" * 5000  # more in each round than HTTP/2 has under way
    monkeypatch.setattr(lab.reconciler.feed, "_most", 2 * count)

    def exporters(status: int) -> Callable[[Draft, float], None]:
        def apply(records: Draft, _: float) -> None:
            for number in range(count):
                name, message = f"e{number:03}", f"{text}{status}"
                records.put(Exporter(namespace="default", name=name, status_message=message))

        return apply

    await lab.reconciler.change(exporters(0))
    async with watching(lab, ann, exporters=True) as reader:
        await reader.next()
        assert len(reader.exporters) == count
        assert count * len(text) / 30_000 < len(reader.messages) < count / 2
        reader.messages.clear()
        for number in range(1, rounds + 1):
            await lab.reconciler.change(exporters(number))
            await trio.sleep(2 * lab_watch.PAUSE_SECONDS)
        await reader.until(
            lambda: all(one.status_message.endswith(f"x{rounds}") for one in reader.exporters.values())
        )
        assert sum(message.snapshot for message in reader.messages) == 1
        assert sum(len(message.exporters) for message in reader.messages) == 2 * count


async def test_who_waits_is_heard_of_while_they_watch_and_for_a_minute_afterwards(
    lab: Lab, ann: Identity, bob: Identity, one: Identity, mock_clock: trio.testing.MockClock
) -> None:
    await asked(lab, bob, "his", waits=True)

    def has_ended() -> bool:
        lease = lab.reconciler.committed.get(Lease, Key("default", "his"))
        assert lease is not None
        return lease.ended is not None

    async def pass_by(seconds: float) -> None:
        mock_clock.jump(seconds)
        await lab.reconciler.change(lambda *_: None)  # it has decided by then

    async with watching(lab, ann, lease="his", waits=True) as stranger:
        await stranger.next()
        async with watching(lab, bob, lease="his", waits=True) as reader:
            await reader.next()
            for _ in range(5):
                await pass_by(WAITER_SECONDS)
            assert not has_ended()
        await trio.testing.wait_all_tasks_blocked()
        await pass_by(WAITER_SECONDS - 1)
        assert not has_ended()
        await pass_by(2)
        assert has_ended(), "a stranger who watches it does not count"


async def test_a_stranger_who_says_that_they_know_of_a_board_is_not_its_command(
    lab: Lab, ann: Identity, bob: Identity, one: Identity, mock_clock: trio.testing.MockClock
) -> None:
    await released(lab, ann, "mine")
    await lab.report(one, "AVAILABLE")
    assert (await asked(lab, bob, "his", waits=True)).exporter
    async with watching(lab, ann, lease="his", waits=True, knows=True) as stranger:
        await stranger.next()
        mock_clock.jump(WATCHED_SECONDS + 1)
        await lab.reconciler.change(lambda *_: None)
    lease = lab.reconciler.committed.get(Lease, Key("default", "his"))
    assert lease is not None
    assert (lease.waited, lease.ended is not None) == (True, True), "its command was not heard of"


async def test_who_is_told_of_their_board_has_it_for_good_if_they_say_so_or_stay(
    lab: Lab, ann: Identity, bob: Identity, one: Identity, mock_clock: trio.testing.MockClock
) -> None:
    async def is_waited(name: str) -> bool:
        await lab.reconciler.change(lambda *_: None)
        lease = lab.reconciler.committed.get(Lease, Key("default", name))
        assert lease is not None
        assert lease.ended is None
        return lease.waited

    await asked(lab, bob, "stays", waits=True)
    async with watching(lab, bob, lease="stays", waits=True) as reader:
        await reader.next()
        await released(lab, ann, "mine")
        await lab.report(one, "AVAILABLE")
        await reader.until(lambda: bool(reader.leases["stays"].lease.exporter))
        assert await is_waited("stays")
        mock_clock.jump(WATCHED_SECONDS + 1)
        assert not await is_waited("stays")
    await released(lab, bob, "stays")
    await lab.report(one, "AVAILABLE")
    assert (await asked(lab, bob, "says", waits=True)).exporter
    assert await is_waited("says")
    async with watching(lab, bob, lease="says", waits=True, knows=True) as reader:
        await reader.next()
        assert not await is_waited("says")


async def test_a_lease_is_told_of_until_it_is_deleted(lab: Lab, ann: Identity, one: Identity) -> None:
    async with watching(lab, ann, lease="mine") as reader:
        await reader.next()
        assert reader.leases["mine"].lease.exporter
        await released(lab, ann, "mine")
        await reader.next()
        assert condition(reader.leases["mine"]) == "it was released"
        lease = lab.reconciler.committed.get(Lease, Key("default", "mine"))
        assert lease is not None
        await lab.reconciler.change(lambda records, _: records.remove(lease))
        with pytest.raises(RpcError, match="not found"):
            await reader.next()


async def test_who_waits_for_no_board_hears_why_there_is_none(lab: Lab, ann: Identity, one: Identity) -> None:
    lease = client_pb2.Lease(selector="board=none", duration=duration_pb2.Duration(seconds=600))
    request = client_pb2.CreateLeaseRequest(parent="namespaces/default", lease_id="none", lease=lease)
    await lab.client.CreateLease(request, metadata=ann.metadata())
    async with watching(lab, ann, lease="none") as reader:
        await reader.next()
        assert reader.leases["none"].reason == "no-board"
