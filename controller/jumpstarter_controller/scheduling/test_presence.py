"""Presence by what has changed, against looking at every exporter each time."""

from __future__ import annotations

import math

from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from jumpstarter_controller.lab import Draft, Exporter, ExporterStatus, Key
from jumpstarter_controller.scheduling import OFFLINE_SECONDS, ExporterPresence, Scheduler

KEYS = [Key("lab", name) for name in ("a", "b", "c")]
keys = st.sampled_from(KEYS)
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["saw", "connected", "disconnected", "forget"]), keys),
        st.tuples(st.sampled_from(["registers", "leaves", "reports", "removed"]), keys),
        st.tuples(st.just("passes"), st.sampled_from([-3600.0, -61.0, 0.0, 1.0, 30.0, 59.0, 61.0, 3600.0])),
        st.tuples(st.sampled_from(["joins", "quits"]), keys),
        st.tuples(st.sampled_from(["written", "refused", "dies", "returns"]), st.none()),
    ),
    max_size=40,
)


class Plain:
    """Who is fresh, and who is lost next, in one look at everything."""

    def __init__(self) -> None:
        self.seen: dict[Key, float] = {}
        self.connections = dict.fromkeys(KEYS, 0)
        self.elsewhere: set[Key] = set()
        """Whose record names another controller."""
        self.lives = True
        """That other one."""

    def tell(self, event: str, key: Key, now: float) -> None:
        if event == "forget":
            self.seen.pop(key, None)
            return
        if event in {"joins", "quits"}:
            if (key in self.elsewhere) is not (event == "joins"):
                self.seen[key] = now
            (self.elsewhere.add if event == "joins" else self.elsewhere.discard)(key)
            return
        self.seen[key] = now
        change = {"saw": 0, "connected": 1, "disconnected": -1}[event]
        self.connections[key] = max(0, self.connections[key] + change)

    def tell_of_other(self, now: float, *, lives: bool) -> None:
        if lives is not self.lives:
            self.seen |= dict.fromkeys(self.elsewhere, now)
        self.lives = lives

    def is_connected(self, key: Key) -> bool:
        return self.connections[key] > 0 or (self.lives and key in self.elsewhere)

    def is_fresh(self, key: Key, now: float) -> bool:
        seen = self.seen.get(key)
        return self.is_connected(key) or (seen is not None and abs(now - seen) <= OFFLINE_SECONDS)

    def turn(self, now: float) -> None:
        """Whoever is gone stays gone until heard of, whatever the clock does."""
        for key in self.seen:
            if not self.is_fresh(key, now):
                self.seen[key] = -math.inf

    def losses(self, draft: Draft, now: float) -> list[float]:
        return [
            self.seen[one.key] + OFFLINE_SECONDS
            for one in draft.all(Exporter)
            if is_live(one) and not self.is_connected(one.key) and self.is_fresh(one.key, now)
        ]


def is_live(exporter: Exporter) -> bool:
    return exporter.devices > 0 and exporter.status is not ExporterStatus.OFFLINE


def change(draft: Draft, event: str, key: Key) -> None:
    record = draft.get(Exporter, key)
    if event == "registers":
        draft.put(replace(record or Exporter(namespace=key.namespace, name=key.name), devices=1))
    elif record is None:
        return
    elif event == "removed":
        draft.remove(record)
    elif event == "leaves":
        draft.put(replace(record, devices=0, status=ExporterStatus.OFFLINE))
    else:
        draft.put(replace(record, status=ExporterStatus.AVAILABLE))


@given(EVENTS)
@example([("refused", None), ("saw", KEYS[0]), ("registers", KEYS[1]), ("passes", 61.0)])
@example([("saw", KEYS[0]), ("passes", 61.0), ("passes", -61.0)])
@example([("connected", KEYS[0]), ("connected", KEYS[0]), ("disconnected", KEYS[0]), ("passes", 61.0)])
@example([("saw", KEYS[0]), ("passes", 30.0), ("passes", 30.0)])
@example(
    [
        ("saw", KEYS[0]),
        ("registers", KEYS[0]),
        ("refused", None),
        ("passes", 61.0),
        ("leaves", KEYS[0]),
        ("saw", KEYS[1]),
    ]
)
def test_whoever_is_not_there_is_offline_after_each_turn(events: list[tuple[str, object]]) -> None:
    now = 1_000_000.0
    lab, presence, plain = Draft(), ExporterPresence(), Plain()
    presence.lives(["other"], now)
    scheduler = Scheduler(presence)
    refuses = False
    """The disk takes nothing: what a turn has changed is undone."""
    for event, argument in events:
        if isinstance(argument, float):
            now += argument
        elif event in {"joins", "quits"}:
            assert isinstance(argument, Key)
            plain.tell(event, argument, now)
            presence.elsewhere(argument, "other" if event == "joins" else "", now)
        elif event in {"dies", "returns"}:
            plain.tell_of_other(now, lives=event == "returns")
            presence.lives(["other"] if event == "returns" else [], now)
        elif event in {"saw", "connected", "disconnected", "forget"}:
            assert isinstance(argument, Key)
            plain.tell(event, argument, now)
            if event == "forget":
                presence.forget(argument)
            else:
                getattr(presence, event)(argument, now)
        elif isinstance(argument, Key):
            change(lab, event, argument)
        else:
            refuses = event == "refused"
        wake = scheduler.reconcile(lab, now)
        assert wake is None or wake > now, "it would never sleep"
        plain.turn(now)
        assert [presence.is_fresh(key, now) for key in KEYS] == [plain.is_fresh(key, now) for key in KEYS]
        absent = [one.name for one in lab.all(Exporter) if is_live(one) and not plain.is_fresh(one.key, now)]
        assert absent == []
        losses = plain.losses(lab, now)
        assert not losses or (wake is not None and wake <= min(losses) + 0.01), (
            "nobody would notice the next loss"
        )
        if refuses:
            lab.back_to(0)
        else:
            lab.commit()
