"""Who writes its record lives, who does not is dead after a while, whatever the clocks of others say."""

from __future__ import annotations

from jumpstarter_controller.replicas.members import LIFETIME_SECONDS, Announced, Members


class Lab:
    """One replica's view, and its clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.members = Members("me", lambda: self.now)

    def see(self, **versions: str) -> bool:
        return self.members.observe(
            {name: Announced(f"{name}:1", version) for name, version in versions.items()}
        )


def test_others_live_as_long_as_their_records_change() -> None:
    lab = Lab()
    assert lab.see(me="1", other="1")
    assert lab.members.living == {"other": "other:1"}
    for version in range(2, 6):
        lab.now += LIFETIME_SECONDS - 0.1
        assert not lab.see(me="1", other=str(version))
    lab.now += LIFETIME_SECONDS
    assert lab.see(me="1", other="5")
    assert lab.members.living == {}
    assert lab.members.known == {"other": "other:1"}
    assert lab.see(me="1", other="6")


def test_who_has_left_is_gone_at_once_and_who_moves_is_elsewhere() -> None:
    lab = Lab()
    lab.see(me="1", other="1")
    assert lab.members.observe({"other": Announced("elsewhere:2", "2")})
    assert lab.members.living == {"other": "elsewhere:2"}
    assert lab.see(me="1")
    assert lab.members.living == {}


def test_what_nobody_has_written_for_very_long_is_forgotten() -> None:
    lab = Lab()
    lab.see(me="1", dead="1")
    assert lab.members.forgettable() == []
    lab.now += 3600
    lab.see(me="2", dead="1")
    assert lab.members.forgettable() == ["dead"]
