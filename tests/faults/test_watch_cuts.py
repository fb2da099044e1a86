"""Watches that are disconnected at any place: at the end, their readers have the real state."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import trio
from jumpstarter_client.controller.lab_snapshot import LabSnapshot
from jumpstarter_controller.lab import Draft, Exporter, ExporterStatus, Key, Lease
from jumpstarter_controller.services import lab_watch
from jumpstarter_controller.services.conftest import ANN, Lab, lab, max_leases
from jumpstarter_proto.lab.v1 import exporters_pb2 as pb
from jumpstarter_proto.remote import Identity, Kind

__all__ = ["lab", "max_leases"]

NAMES = [f"name-{number}" for number in range(12)]
ROUNDS = 60
WISHES = [
    {"exporters": True, "leases": pb.LEASE_SCOPE_HELD},
    {"exporters": True, "exporter_filter": "board=a", "leases": pb.LEASE_SCOPE_ALL},
    {"leases": pb.LEASE_SCOPE_OWN},
]


def change(chance: random.Random) -> Callable[[Draft, float], None]:
    """Some records, of which some are removed. None of the exporters can be leased."""

    def apply(records: Draft, now: float) -> None:
        for name in chance.sample(NAMES, chance.randint(1, 6)):
            key = Key("default", name)
            if chance.random() < 0.5:
                if chance.random() < 0.2 and (exporter := records.get(Exporter, key)) is not None:
                    records.remove(exporter)
                    continue
                status = chance.choice(list(ExporterStatus))
                labels = {"board": chance.choice("ab")}
                records.put(Exporter(namespace="default", name=name, labels=labels, status=status))
            elif (lease := records.get(Lease, key)) is not None and chance.random() < 0.3:
                records.remove(lease)
            else:
                wish = {"exporter_name": name, "duration": 1e6, "waits_for_board": True}
                client = chance.choice(["ann", "bob"])
                ended = now if chance.random() < 0.3 else None
                records.put(
                    Lease(namespace="default", name=name, client=client, ended=ended, **wish)  # type: ignore[arg-type]
                )

    return apply


class Reader:
    """Watches, is cut off after some messages, and goes on from where it was."""

    def __init__(self, lab: Lab, who: Identity, wish: pb.WatchRequest, chance: random.Random) -> None:
        self._lab = lab
        self._who = who
        self._wish = wish
        self._chance = chance
        self.known = LabSnapshot()
        self.cuts = 0
        self.is_calm = False
        self.ways: set[str] = set()
        """How it was told."""

    async def run(self) -> None:
        while True:
            left = self._chance.randint(0, 6)
            self._wish.after = self.known.revision
            self.known.start_call()
            async with self._lab.details.Watch(self._wish, metadata=self._who.metadata()) as call:
                while left > 0 or self.is_calm:
                    news = await call.receive()
                    self.ways.add("anew" if news.snapshot else "from where it was")
                    self.known.apply(news)
                    left -= 1
                    if self._chance.random() < 0.2 and not self.is_calm:
                        await trio.sleep(self._chance.uniform(0, 0.05))
            self.cuts += 1


@pytest.mark.parametrize("seed", range(3))
async def test_what_is_known_in_the_end_is_what_is_so(
    lab: Lab, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab_watch, "PAGE_SIZE", 300)  # a few records
    monkeypatch.setattr(lab_watch, "PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(lab.reconciler.feed, "_most", 20)
    chance = random.Random(seed)
    ann = await lab.made(Kind.CLIENT, ANN)
    await lab.made(Kind.CLIENT, Key("default", "bob"))
    readers = [Reader(lab, ann, pb.WatchRequest(**wish), chance) for wish in WISHES]  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        for reader in readers:
            nursery.start_soon(reader.run)
        rounds = 0
        with trio.fail_after(60):
            # On a slow machine a reader may have been told little by then.
            while rounds < ROUNDS or not all(reader.cuts > 5 and len(reader.ways) == 2 for reader in readers):
                await lab.reconciler.change(change(chance))
                await trio.sleep(chance.choice([0, 0.001, 0.01]))
                rounds += 1
        for reader in readers:
            reader.is_calm = True
        with trio.move_on_after(10):
            while not all(knows(lab, reader) for reader in readers):
                await trio.sleep(0.01)
        assert [knows(lab, reader) for reader in readers] == [True] * 3
        nursery.cancel_scope.cancel()


def knows(lab: Lab, reader: Reader) -> bool:
    """Whether the reader knows the very lab of now."""
    wish = reader._wish
    exporters = {
        one.name: one.status
        for one in lab.reconciler.committed.all(Exporter)
        if wish.exporters and (not wish.exporter_filter or one.labels["board"] == "a")
    }
    scope = wish.leases
    leases = {
        one.name: one.client
        for one in lab.reconciler.committed.open_leases()
        if scope != pb.LEASE_SCOPE_HELD and (scope == pb.LEASE_SCOPE_ALL or one.client == "ann")
    }
    known = reader.known
    return exporters == {name: one.status for name, one in known.exporters.items()} and leases == {
        name: one.lease.client.rpartition("/")[2] for name, one in known.leases.items()
    }
