from __future__ import annotations

from jumpstarter_proto.rpc._guards import RateGuard
from jumpstarter_proto.rpc._keepalive import KeepAlive, KeepAliveStep


def test_silence_is_asked_about_once_and_then_given_up() -> None:
    keep_alive = KeepAlive(20, 5, now=100)
    assert keep_alive.due == 120
    assert keep_alive.step(119) is KeepAliveStep.WAIT
    assert keep_alive.step(120) is KeepAliveStep.PING
    assert keep_alive.due == 125
    assert keep_alive.step(124) is KeepAliveStep.WAIT
    assert keep_alive.step(125) is KeepAliveStep.GIVE_UP


def test_anything_heard_is_a_sign_of_life() -> None:
    keep_alive = KeepAlive(20, 5, now=0)
    keep_alive.heard(19)
    assert keep_alive.step(20) is KeepAliveStep.WAIT
    assert keep_alive.step(39) is KeepAliveStep.PING
    keep_alive.heard(40)
    assert keep_alive.step(44) is KeepAliveStep.WAIT
    assert keep_alive.due == 60


def test_resets_are_counted_by_rate_and_burst() -> None:
    guard = RateGuard(rate=10, burst=20)
    assert not any(guard.count(now=0) for _ in range(20))
    assert guard.count(now=0)
    assert not guard.count(now=1)
    assert not any(guard.count(now=2 + second / 10) for second in range(1000))
