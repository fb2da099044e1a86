"""What a provider may answer, without one. tests/e2e/test_oidc.py has a real one."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jumpstarter_proto.https import Reply

from jumpstarter_client.identity.oidc import LoginError, Provider
from jumpstarter_client.identity.oidc.browser import _callback
from jumpstarter_client.identity.oidc.device import DevicePoll, PollResult


def token(audience: str) -> str:
    return f"e30.{base64.urlsafe_b64encode(json.dumps({'aud': audience}).encode()).decode().rstrip('=')}.c2ln"


PROVIDER = Provider("https://id.example", "", ("lab",), "jumpstarter-cli", "https://id.example/token")


@pytest.mark.parametrize(
    ("reply", "result", "interval"),
    [
        (Reply(200, {}), PollResult.TOKENS, 5.0),
        (Reply(400, {"error": "authorization_pending"}), PollResult.WAIT, 5.0),
        (Reply(400, {"error": "slow_down"}), PollResult.WAIT, 10.0),
        (Reply(400, {"error": "expired_token"}), PollResult.REFUSED, 5.0),
        (Reply(400, {"error": ["access_denied"]}), PollResult.REFUSED, 5.0),
        (Reply(401, {}), PollResult.REFUSED, 5.0),
        (Reply(503, {}), PollResult.WAIT, 10.0),
        (Reply(429, {"error": "too many"}), PollResult.WAIT, 10.0),
    ],
)
def test_answers_to_who_waits(reply: Reply, result: PollResult, interval: float) -> None:
    poll = DevicePoll(None)
    assert poll.answered(reply) is result
    assert poll.interval == interval


@given(st.one_of(st.none(), st.text(), st.booleans(), st.integers(), st.floats(), st.lists(st.integers())))
def test_any_interval_is_a_bearable_one(interval: Any) -> None:
    poll = DevicePoll(interval)
    for _ in range(20):
        poll.answered(Reply(400, {"error": "slow_down"}))
        poll.failed()
        assert 1.0 <= poll.interval <= 60.0


def test_the_token_that_the_controller_takes_is_kept() -> None:
    ours, other = token("lab"), token("cli")
    assert PROVIDER.tokens(Reply(200, {"access_token": ours, "id_token": other})).token == ours
    assert PROVIDER.tokens(Reply(200, {"access_token": "opaque", "id_token": ours})).token == ours
    assert PROVIDER.tokens(Reply(200, {"access_token": "opaque", "id_token": other})).token == "opaque"
    kept = PROVIDER.tokens(Reply(200, {"access_token": ours, "refresh_token": "new"}), "old")
    assert kept.refresh == "new"
    for none in ({}, {"refresh_token": ""}, {"refresh_token": None}, {"refresh_token": 5}):
        assert PROVIDER.tokens(Reply(200, {"access_token": ours, **none}), "old").refresh == "old"
    assert ours not in repr(kept)
    assert "new" not in repr(kept)


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (
            Reply(400, {"error": "invalid_grant", "error_description": "no\x1b[31m"}),
            r"invalid_grant: no\?\[31m;",
        ),
        (Reply(502, {}), "HTTP 502"),
        (Reply(200, {}), "gave no token"),
        (Reply(200, {"access_token": 5}), "gave no token"),
    ],
)
def test_refusals_are_said_in_words_that_do_nothing_to_a_terminal(reply: Reply, sentence: str) -> None:
    with pytest.raises(LoginError, match=sentence):
        PROVIDER.tokens(reply)


@given(st.binary())
def test_any_bytes_may_come_to_the_callback(request: bytes) -> None:
    _callback(request + b"\r\n")


def test_what_a_browser_brings_back() -> None:
    assert _callback(b"GET /callback?code=a%20b&state=c HTTP/1.1\r\nhost: x") == {"code": "a b", "state": "c"}
    for other in (b"POST /callback?code=a HTTP/1.1\r\n", b"GET /else?code=a HTTP/1.1\r\n", b"GET\r\n"):
        assert _callback(other) == {}
