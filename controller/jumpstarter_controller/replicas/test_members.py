"""Who writes its record lives, who does not is dead after a while, whatever the clocks of others say."""

from __future__ import annotations

from jumpstarter_controller.replicas.members import (
    ANNOUNCE_SECONDS,
    KNOWN_SECONDS,
    LIFETIME_SECONDS,
    Members,
    ReplicaRecord,
)
from jumpstarter_controller.replicas.registry import LOOK_SECONDS


class Lab:
    """One replica's view, and its clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.members = Members("me", lambda: self.now)

    def see(self, **versions: str) -> bool:
        return self.members.observe(
            {name: ReplicaRecord(f"{name}:1", version) for name, version in versions.items()}
        )

    def look_on(self, seconds: float, **versions: str) -> bool:
        """See the same for so long; whether anything has changed."""
        changes = []
        while seconds > 0:
            self.now += min(seconds, LOOK_SECONDS)
            seconds -= LOOK_SECONDS
            changes.append(self.see(**versions))
        return any(changes)


def test_others_live_as_long_as_their_records_change() -> None:
    lab = Lab()
    assert lab.see(me="1", other="1")
    assert lab.members.living == {"other": "other:1"}
    for version in range(2, 6):
        assert not lab.look_on(LIFETIME_SECONDS - 0.1, me="1", other=str(version - 1))
        assert not lab.see(me="1", other=str(version))
    assert lab.look_on(LIFETIME_SECONDS, me="1", other="5")
    assert lab.members.living == {}
    assert lab.members.known == {"other": "other:1"}
    assert lab.see(me="1", other="6")


def test_who_has_left_is_gone_at_once_and_who_moves_is_elsewhere() -> None:
    lab = Lab()
    lab.see(me="1", other="1")
    assert lab.members.observe({"other": ReplicaRecord("elsewhere:2", "2")})
    assert lab.members.living == {"other": "elsewhere:2"}
    assert lab.see(me="1")
    assert lab.members.living == {}


def test_what_nobody_has_written_for_very_long_is_forgotten() -> None:
    lab = Lab()
    lab.see(me="1", dead="1")
    assert lab.members.forgettable() == []
    lab.look_on(3600, me="2", dead="1")
    assert lab.members.forgettable() == ["dead"]


def test_who_could_not_be_seen_for_long_is_not_dead_because_of_that() -> None:
    """While the API server is away nobody can write, and nobody can look."""
    lab = Lab()
    lab.see(me="1", other="1", dead="1")
    lab.now += KNOWN_SECONDS * 2
    assert not lab.see(me="1", other="1", dead="1")
    assert lab.members.known.keys() == lab.members.living.keys() == {"other", "dead"}
    lab.look_on(LIFETIME_SECONDS - ANNOUNCE_SECONDS, me="1", other="2", dead="1")
    assert lab.members.living.keys() == {"other"}
    assert lab.members.known.keys() == {"other", "dead"}
    for version in range(30):
        lab.look_on(ANNOUNCE_SECONDS, me="1", other=f"{version}th", dead="1")
    assert lab.members.known.keys() == {"other"}
