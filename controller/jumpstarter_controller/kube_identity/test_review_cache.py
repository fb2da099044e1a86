"""What is remembered of tokens: never longer than it may be, and never more than so much."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jumpstarter_proto.remote import Kind

from jumpstarter_controller.identity import Subject, TokenError
from jumpstarter_controller.kube_identity import review_cache
from jumpstarter_controller.kube_identity.claims import AccountClaims, audiences_of, claims_of
from jumpstarter_controller.kube_identity.review_cache import (
    FRESH_SECONDS,
    REFUSED_SECONDS,
    STALE_SECONDS,
    Review,
    ReviewCache,
)

SUBJECT = Subject(Kind.CLIENT, "lab", "ann", "uid")


def refused() -> TokenError:
    return TokenError("no")


CLAIMS = AccountClaims(SUBJECT, 9e9, 1e9, "account", ("lab:8082",))
steps = st.tuples(
    st.sampled_from("abcdef"),
    st.sampled_from(["accept", "refuse", "look"]),
    st.sampled_from([1.0, 9.0, 100.0, 3000.0]),
)


@given(st.lists(steps, max_size=60))
def test_what_was_said_last_holds_as_long_as_it_may(steps: list[tuple[str, str, float]]) -> None:
    cache, now = ReviewCache(), 0.0
    said: dict[bytes, tuple[str, float]] = {}
    for name, step, seconds in steps:
        digest = name.encode()
        now += seconds
        if step == "accept":
            cache.accept(digest, CLAIMS, now)
            said[digest] = step, now
        elif step == "refuse":
            cache.refuse(digest, refused, now)
            said[digest] = step, now
        word, since = said.get(digest, ("", 0.0))
        found, age = cache.fresh(digest, now), now - since
        assert isinstance(found, Review) == (word == "accept" and age < FRESH_SECONDS)
        assert (found is refused) == (word == "refuse" and age < REFUSED_SECONDS)
        assert (cache.stale(digest, now) is not None) == (word == "accept" and age < STALE_SECONDS)


def test_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(review_cache, "MAX_ENTRIES", 2)
    cache = ReviewCache()
    for number, name in enumerate((b"a", b"b", b"a", b"c")):
        cache.accept(name, CLAIMS, float(number))
        cache.refuse(name + b"!", refused, float(number))
    kept = [name for name in (b"a", b"b", b"c") if cache.fresh(name, 4.0)]
    bad = [name for name in (b"a!", b"b!", b"c!") if cache.fresh(name, 4.0)]
    assert (kept, bad) == ([b"a", b"c"], [b"a!", b"c!"])


def token(claims: Any) -> str:
    middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{middle}.c2ln"


def full() -> dict[str, Any]:
    account = {"namespace": "lab", "serviceaccount": {"name": "ann-client", "uid": "account"}}
    return {"aud": audiences_of(SUBJECT, "lab:8082"), "exp": 9e9, "iat": 1e9, "kubernetes.io": account}


def test_a_token_says_whose_it_is() -> None:
    found = claims_of(token(full()))
    assert found is not None
    assert (found.subject, found.expires, found.account_uid) == (SUBJECT, 9e9, "account")
    assert "lab:8082" in found.audiences


@given(
    st.sampled_from(["aud", "exp", "iat", "kubernetes.io"]),
    st.none() | st.text() | st.lists(st.text()) | st.booleans(),
)
def test_what_is_not_a_token_of_a_lab_says_nothing(key: str, value: Any) -> None:
    claims = full() | {key: value}
    if key not in {"exp", "iat"}:
        assert claims_of(token(claims)) is None
    del claims[key]
    assert claims_of(token(claims)) is None
    two = full()
    two["aud"] *= 2
    assert claims_of(token(two)) is None, "it names one subject"
    assert claims_of(token(full()) + "x" * 16384) is None, "it is too long to be one"
    others = full()
    others["aud"] += [5, None]
    found = claims_of(token(others))
    assert found is not None
    assert all(isinstance(one, str) for one in found.audiences)
