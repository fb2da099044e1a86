"""A router's token: for one connection, for a short time, and with nothing in it that its log does not need."""

from __future__ import annotations

from typing import Any

import jwt
import pytest
from jumpstarter_proto.rpc import RpcError, StatusCode

from jumpstarter_controller.router.tokens import (
    AUDIENCE,
    CLOCK_LEEWAY_SECONDS,
    ISSUER,
    ROUTER_TOKEN_SECONDS,
    RouterTokens,
)

KEY = b"k" * 32
NOW = 1000.0


def tokens(now: float = NOW) -> RouterTokens:
    return RouterTokens(KEY, clock=lambda: now)


@pytest.mark.parametrize(
    ("asked", "lasts"),
    [
        (90.9, 90),
        (1e9, ROUTER_TOKEN_SECONDS),
        (ROUTER_TOKEN_SECONDS, ROUTER_TOKEN_SECONDS),
        (0.2, 1),
        (-5.0, 1),
    ],
)
def test_it_counts_for_as_long_as_is_asked_and_no_longer_than_any_may(asked: float, lasts: int) -> None:
    token = tokens().issue(asked)
    assert tokens().admit(token).seconds == lasts + CLOCK_LEEWAY_SECONDS
    end = NOW + lasts + CLOCK_LEEWAY_SECONDS
    assert tokens(end - 0.5).admit(token).seconds == 0.5
    for now in (end, NOW - CLOCK_LEEWAY_SECONDS - 1):
        with pytest.raises(RpcError, match="outside of its time; dial again") as refused:
            tokens(now).admit(token)
        assert refused.value.code is StatusCode.UNAUTHENTICATED
    assert tokens(NOW - CLOCK_LEEWAY_SECONDS).admit(token).seconds == lasts + 2 * CLOCK_LEEWAY_SECONDS


def test_each_is_of_a_stream_of_its_own_and_says_whose_it_is() -> None:
    about = {"lease": "mine", "namespace": "lab", "secret": "x"}
    one, other = (tokens().admit(tokens().issue(60.0, about)) for _ in range(2))
    assert one.about == other.about == {"lease": "mine", "namespace": "lab"}
    assert one.stream != other.stream
    assert tokens().admit(tokens().issue()).about == {}
    token = tokens().issue(60.0, about)
    assert "secret" not in jwt.decode(token, options={"verify_signature": False})


GOOD: dict[str, Any] = {"iss": ISSUER, "aud": [AUDIENCE], "sub": "s", "exp": NOW + 60}


@pytest.mark.parametrize(
    "wrong",
    [
        {"iss": "https://localhost:8085"},
        {"aud": ["https://jumpstarter.dev/controller"]},
        {"sub": ""},
        {"sub": 5},
        {"exp": "soon"},
        {"exp": None},
        {"nbf": NOW + CLOCK_LEEWAY_SECONDS + 1},
    ],
)
def test_one_that_is_for_something_else_is_refused(wrong: dict[str, Any]) -> None:
    assert tokens().admit(jwt.encode(GOOD, KEY, algorithm="HS256")).stream == "s"
    claims = {key: value for key, value in (GOOD | wrong).items() if value is not None}
    with pytest.raises(RpcError) as refused:
        tokens().admit(jwt.encode(claims, KEY, algorithm="HS256"))
    assert refused.value.code is StatusCode.UNAUTHENTICATED
