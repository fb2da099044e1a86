"""Leases that exporters accept or decline, over their calls."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from google.protobuf import duration_pb2
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.lab.v1 import exporter_pb2, exporters_pb2
from jumpstarter_proto.remote import ANSWERS, Identity, Kind
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.v1 import jumpstarter_pb2 as pb

from jumpstarter_controller.lab import Exporter, ExporterStatus, Key, Lease
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.scheduling import ANSWER_SECONDS
from jumpstarter_controller.services.client_service import DECISION_SECONDS
from jumpstarter_controller.services.conftest import ANN, ONE, Lab
from jumpstarter_controller.services.exporter_sessions import INSTANCE, SEQUENCE

LOCAL_USE = exporter_pb2.Reason(code="local-use", sentence="in local use by ana")
MINE = Key("default", "mine")


async def online(lab: Lab, key: Key = ONE, *, answers: bool = True) -> Identity:
    """An exporter that is available."""
    one = await lab.made(Kind.EXPORTER, key)
    await introduce(lab, one, answers=answers)
    return one


async def introduce(lab: Lab, one: Identity, *, answers: bool = True) -> None:
    mark = [(ANSWERS, "1")] if answers else []
    request = pb.RegisterRequest(
        labels={"jumpstarter.dev/board": "x"}, reports=[pb.DriverInstanceReport(uuid="1")]
    )
    await lab.controller.Register(request, metadata=[*one.metadata(), *mark])
    await lab.report(one, "AVAILABLE")


class Watch:
    """What an exporter hears."""

    def __init__(self, call: AsyncIterator[exporter_pb2.Assignment]) -> None:
        self._call = call

    async def next(self) -> exporter_pb2.Assignment:
        return await anext(self._call)


@asynccontextmanager
async def watching(lab: Lab, one: Identity, *marks: tuple[str, str]) -> AsyncIterator[Watch]:
    request = exporter_pb2.WatchAssignmentRequest()
    async with lab.exporter.WatchAssignment(request, metadata=[*one.metadata(), *marks]) as call:
        yield Watch(aiter(call))


async def ask(lab: Lab, ann: Identity, selector: str = "", *, name: str = "mine") -> client_pb2.Lease:
    lease = client_pb2.Lease(duration=duration_pb2.Duration(seconds=600), selector=selector)
    if not selector:
        lease.exporter_name = "one"
    request = client_pb2.CreateLeaseRequest(parent="namespaces/default", lease_id=name, lease=lease)
    return await lab.client.CreateLease(request, metadata=ann.metadata())


async def ask_and_offer(lab: Lab, ann: Identity, clock: trio.testing.MockClock) -> None:
    """A lease that is offered, and whose exporter takes its time."""
    asked = trio.Event()

    async def ask_for_one() -> None:
        await ask(lab, ann)
        asked.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask_for_one)
        while lab.reconciler.committed.get(Lease, MINE) is None:
            await lab.reconciler.wait(Lease, MINE, 1)
        while not asked.is_set():  # it is not written any more, and waits for the answer, or is about to
            clock.jump(DECISION_SECONDS / 4)
            await trio.testing.wait_all_tasks_blocked()
    assert record(lab).offered is not None


async def until_offered(watch: Watch) -> None:
    while not (await watch.next()).offered:
        pass


async def pass_time(lab: Lab, clock: trio.testing.MockClock, seconds: float) -> None:
    """What is due by then is decided."""
    clock.jump(seconds)
    await lab.reconciler.change(lambda *_: None)


async def accept(lab: Lab, one: Identity, name: str = "mine") -> None:
    await lab.exporter.AcceptLease(exporter_pb2.AcceptLeaseRequest(lease=name), metadata=one.metadata())


async def decline(lab: Lab, one: Identity, name: str = "mine", *marks: tuple[str, str]) -> None:
    request = exporter_pb2.DeclineLeaseRequest(lease=name, reasons=[LOCAL_USE])
    await lab.exporter.DeclineLease(request, metadata=[*one.metadata(), *marks])


async def shown(lab: Lab, ann: Identity, name: str = "mine") -> client_pb2.Lease:
    request = client_pb2.GetLeaseRequest(name=f"namespaces/default/leases/{name}")
    return await lab.client.GetLease(request, metadata=ann.metadata())


def record(lab: Lab, key: Key = MINE) -> Lease:
    lease = lab.reconciler.committed.get(Lease, key)
    assert lease is not None
    return lease


def exporter(lab: Lab, key: Key = ONE) -> Exporter:
    found = lab.reconciler.committed.get(Exporter, key)
    assert found is not None
    return found


async def test_a_lease_begins_when_its_exporter_accepts_it(
    lab: Lab, mock_clock: trio.testing.MockClock
) -> None:
    ann, one = await lab.made(Kind.CLIENT, ANN), await online(lab)
    async with watching(lab, one) as watch:
        assert await watch.next() == exporter_pb2.Assignment()
        await ask_and_offer(lab, ann, mock_clock)
        await until_offered(watch)
        waiting = await shown(lab, ann)
        assert [(c.type, c.reason) for c in waiting.conditions] == [("Pending", "Offered")]
        assert not waiting.exporter
        with pytest.raises(RpcError, match="not active"):
            await lab.controller.Dial(pb.DialRequest(lease_name="mine"), metadata=ann.metadata())
        await pass_time(lab, mock_clock, 20)
        now = lab.reconciler.clock()
        await accept(lab, one)
        await accept(lab, one)
        begun = await watch.next()
        assert (begun.lease, begun.client, begun.offered) == ("mine", "ann", False)
        assert begun.end.ToSeconds() == int(now + 600)
        ready = await shown(lab, ann)
        assert ready.exporter.endswith("/one")
        assert ready.effective_begin_time.ToSeconds() == int(now)
        with pytest.raises(RpcError, match="accepted before"):
            await decline(lab, one)
        longer = client_pb2.Lease(
            name="namespaces/default/leases/mine", duration=duration_pb2.Duration(seconds=900)
        )
        await lab.client.UpdateLease(client_pb2.UpdateLeaseRequest(lease=longer), metadata=ann.metadata())
        assert (await watch.next()).end.ToSeconds() == int(now + 900)


async def test_who_asks_hears_at_once_of_a_board_that_is_accepted_at_once(lab: Lab) -> None:
    ann, one = await lab.made(Kind.CLIENT, ANN), await online(lab)
    async with watching(lab, one) as watch, trio.open_nursery() as nursery:

        async def serve() -> None:
            await until_offered(watch)
            await accept(lab, one)

        nursery.start_soon(serve)
        before = trio.current_time()
        assert (await ask(lab, ann)).exporter.endswith("/one")
        assert trio.current_time() - before < DECISION_SECONDS


async def test_a_lease_that_is_declined_gets_another_board_and_the_first_has_a_reason(lab: Lab) -> None:
    ann, one = await lab.made(Kind.CLIENT, ANN), await online(lab)
    await online(lab, Key("default", "two"), answers=False)
    async with watching(lab, one) as watch:
        lab.reconciler.presence.disconnected(Key("default", "two"), lab.reconciler.clock())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, lab, ann, "jumpstarter.dev/board=x")
            await until_offered(watch)
            created = record(lab).created
            await decline(lab, one)
        assert record(lab).exporter == "two"
        assert record(lab).created == created
        assert exporter(lab).status is ExporterStatus.AFTER_LEASE_HOOK
        details = await lab.details.GetExporterDetails(
            exporters_pb2.GetExporterDetailsRequest(name="one"), metadata=ann.metadata()
        )
        assert list(details.reasons) == [LOCAL_USE]
        await lab.report(one, "AVAILABLE")
        assert exporter(lab).reasons == ()


async def test_a_declined_lease_waits_with_the_reason_until_its_board_is_available_again(
    lab: Lab, mock_clock: trio.testing.MockClock
) -> None:
    ann, one = await lab.made(Kind.CLIENT, ANN), await online(lab)
    async with watching(lab, one) as watch:
        await ask_and_offer(lab, ann, mock_clock)
        await until_offered(watch)
        await decline(lab, one)
        news = await watch.next()
        assert (news.lease, news.waiting_lease, news.waiting_client) == ("", "mine", "ann")
        (condition,) = (await shown(lab, ann)).conditions
        assert condition.reason == "NotReady"
        assert "one: in local use by ana" in condition.message
        await pass_time(lab, mock_clock, 1000)
        assert not record(lab).exporter
        await lab.report(one, "AVAILABLE")
        assert (await watch.next()).offered
        await decline(lab, one)
        assert (await watch.next()).waiting_lease == "mine"
        request = client_pb2.DeleteLeaseRequest(name="namespaces/default/leases/mine")
        await lab.client.DeleteLease(request, metadata=ann.metadata())
        assert await watch.next() == exporter_pb2.Assignment()


async def test_an_exporter_hears_of_who_waits_for_it_though_it_was_never_asked(
    lab: Lab, mock_clock: trio.testing.MockClock
) -> None:
    """At once: its clock stands still."""
    ann, one = await lab.made(Kind.CLIENT, ANN), await online(lab)
    reasons = [LOCAL_USE]
    busy = exporter_pb2.ReportStatusRequest(status="EXPORTER_STATUS_AFTER_LEASE_HOOK", reasons=reasons)
    await lab.exporter.ReportStatus(busy, metadata=one.metadata())
    two = await online(lab, Key("default", "two"), answers=False)
    async with (
        watching(lab, one) as watch,
        lab.controller.Status(pb.StatusRequest(), metadata=two.metadata()),
    ):
        assert await watch.next() == exporter_pb2.Assignment()
        assert (await ask(lab, ann, "jumpstarter.dev/board=x")).exporter.endswith("/two")
        await ask(lab, ann, "jumpstarter.dev/board=x", name="second")
        assert await watch.next() == exporter_pb2.Assignment(waiting_lease="second", waiting_client="ann")
        await lab.controller.ReleaseLease(pb.ReleaseLeaseRequest(name="mine"), metadata=two.metadata())
        assert await watch.next() == exporter_pb2.Assignment(), "it has got the other one"


async def test_an_old_refusal_takes_nothing_from_a_board_that_is_available_since(lab: Lab) -> None:
    ann, one = await lab.made(Kind.CLIENT, ANN), await online(lab)
    instance = (INSTANCE, "process")
    request = pb.ReportStatusRequest(status="EXPORTER_STATUS_AVAILABLE")
    await lab.controller.ReportStatus(request, metadata=[*one.metadata(), instance, (SEQUENCE, "7")])
    async with watching(lab, one, instance) as watch, trio.open_nursery() as nursery:
        nursery.start_soon(ask, lab, ann)
        await until_offered(watch)
        await decline(lab, one, "mine", instance, (SEQUENCE, "6"))
        assert exporter(lab).status is ExporterStatus.AVAILABLE
        assert record(lab).offered is not None
        await lab.exporter.AcceptLease(
            exporter_pb2.AcceptLeaseRequest(lease="mine"), metadata=[*one.metadata(), instance]
        )


async def test_who_does_not_answer_has_to_say_again_that_it_is_available(
    lab: Lab, mock_clock: trio.testing.MockClock
) -> None:
    ann, one = await lab.made(Kind.CLIENT, ANN), await online(lab)
    async with watching(lab, one) as watch:
        await ask_and_offer(lab, ann, mock_clock)
        await until_offered(watch)
        offered = record(lab).offered
        assert offered is not None
        await pass_time(lab, mock_clock, offered + ANSWER_SECONDS - 1 - lab.reconciler.clock())
        assert record(lab).offered is not None
        await pass_time(lab, mock_clock, 1)
        assert exporter(lab).status is ExporterStatus.OFFLINE
        with pytest.raises(RpcError, match="did not say within 30 s") as ended:
            await until_offered(watch)
        assert ended.value.code is StatusCode.ABORTED
    assert not record(lab).exporter
    with pytest.raises(RpcError) as late:
        await accept(lab, one)
    assert late.value.code is StatusCode.FAILED_PRECONDITION
    await introduce(lab, one)
    async with watching(lab, one) as watch:
        assert (await watch.next()).offered
        await accept(lab, one)


async def test_an_offer_outlives_its_controller(lab: Lab) -> None:
    ann, one = await lab.made(Kind.CLIENT, ANN), await online(lab)
    async with watching(lab, one) as watch, trio.open_nursery() as nursery:
        nursery.start_soon(ask, lab, ann)
        await until_offered(watch)
        again = Reconciler(lab.reconciler._store_sync._store, clock=lab.reconciler.clock)
        assert again.committed.get(Lease, MINE) == record(lab)
        assert again.committed.holder(ONE) == record(lab)
        await accept(lab, one)
        again = Reconciler(lab.reconciler._store_sync._store, clock=lab.reconciler.clock)
        assert again.committed.get(Lease, MINE) == record(lab)
        assert record(lab).begun is not None


async def test_exporters_that_do_not_answer_take_what_they_get(lab: Lab) -> None:
    ann, one = await lab.made(Kind.CLIENT, ANN), await online(lab, answers=False)
    async with lab.controller.Status(pb.StatusRequest(), metadata=one.metadata()) as call:
        stream = aiter(call)
        await anext(stream)
        assert (await ask(lab, ann)).exporter.endswith("/one")
        assert (await anext(stream)).lease_name == "mine"


async def test_an_offer_is_not_a_lease_on_jumpstarters_own_stream(
    lab: Lab, mock_clock: trio.testing.MockClock
) -> None:
    ann, one = await lab.made(Kind.CLIENT, ANN), await online(lab)
    heard: list[str] = []
    async with (
        lab.controller.Status(pb.StatusRequest(), metadata=one.metadata()) as call,
        trio.open_nursery() as nursery,
    ):
        begun = trio.Event()

        async def hear() -> None:
            async for message in call:
                heard.append(message.lease_name)
                if message.lease_name:
                    begun.set()

        nursery.start_soon(hear)
        await ask_and_offer(lab, ann, mock_clock)
        await trio.testing.wait_all_tasks_blocked()
        assert heard == [""]
        await accept(lab, one)
        await begun.wait()
        assert heard == ["", "mine"]
        nursery.cancel_scope.cancel()


async def test_reasons_are_bounded_and_one_is_needed_to_decline(lab: Lab) -> None:
    ann, one = await lab.made(Kind.CLIENT, ANN), await online(lab)
    reasons = [exporter_pb2.Reason(code="c" * 100, sentence="s\x1b" * 2000)] * 40
    request = exporter_pb2.ReportStatusRequest(status="EXPORTER_STATUS_AFTER_LEASE_HOOK", reasons=reasons)
    await lab.exporter.ReportStatus(request, metadata=one.metadata())
    kept = exporter(lab).reasons
    assert len(kept) == 16
    assert all(len(r.code) < 70 and len(r.sentence) < 5000 and r.sentence.isprintable() for r in kept)
    await lab.report(one, "AVAILABLE")
    async with watching(lab, one) as watch, trio.open_nursery() as nursery:
        nursery.start_soon(ask, lab, ann)
        await until_offered(watch)
        with pytest.raises(RpcError) as refused:
            await lab.exporter.DeclineLease(
                exporter_pb2.DeclineLeaseRequest(lease="mine"), metadata=one.metadata()
            )
        assert refused.value.code is StatusCode.INVALID_ARGUMENT
        await accept(lab, one)
