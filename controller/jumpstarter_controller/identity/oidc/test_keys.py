from __future__ import annotations

import itertools
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from jumpstarter_controller.identity.oidc.keys import (
    MAX_KEY_AGE_SECONDS,
    MAX_KEYS,
    MIN_FETCH_INTERVAL_SECONDS,
    OLD_KEYS_RETRY_SECONDS,
    KeyCache,
    KeyLookup,
)

RSA = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 2048).public_key(), as_dict=True)
EC = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key(), as_dict=True)


def key(kid: str, base: dict[str, Any] = RSA, **more: Any) -> dict[str, Any]:
    return {name: value for name, value in base.items() if name != "key_ops"} | {"kid": kid} | more


def header(kid: str | None = None, alg: str = "RS256") -> dict[str, Any]:
    return {"alg": alg} | ({} if kid is None else {"kid": kid})


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "new", "junk"]), st.floats(0, 100)), max_size=60))
def test_whatever_comes_keys_are_not_fetched_more_often_than_that(steps: list[tuple[str, float]]) -> None:
    cache = KeyCache()
    now, fetches = 0.0, list[float]()
    for kid, pause in steps:
        now += pause
        known = cache.look(header(kid), now)
        if known in (KeyLookup.OLD, KeyLookup.MISSING):
            cache.trying(now)
            cache.fetched({"keys": [key("a"), key("b")]}, now)
            fetches.append(now)
        elif known is KeyLookup.NO:
            assert now - fetches[-1] < MIN_FETCH_INTERVAL_SECONDS
        if kid in ("a", "b"):
            assert cache.candidates(header(kid)), "a known key went away"
    assert all(later - before >= MIN_FETCH_INTERVAL_SECONDS for before, later in itertools.pairwise(fetches))


def test_keys_that_are_old_are_fetched_again_and_go_on_meanwhile() -> None:
    cache = KeyCache()
    cache.trying(0.0)
    cache.fetched({"keys": [key("a")]}, 0.0)
    assert cache.look(header("a"), MAX_KEY_AGE_SECONDS - 1) is KeyLookup.YES
    assert cache.look(header("a"), MAX_KEY_AGE_SECONDS) is KeyLookup.OLD
    cache.trying(MAX_KEY_AGE_SECONDS)  # and it failed
    assert cache.look(header("a"), MAX_KEY_AGE_SECONDS + OLD_KEYS_RETRY_SECONDS - 1) is KeyLookup.YES
    assert cache.look(header("a"), MAX_KEY_AGE_SECONDS + OLD_KEYS_RETRY_SECONDS) is KeyLookup.OLD
    assert cache.look(header("b"), MAX_KEY_AGE_SECONDS + MIN_FETCH_INTERVAL_SECONDS) is KeyLookup.MISSING


@pytest.mark.parametrize(
    ("given_key", "wanted"),
    [
        (key("a"), True),
        (key("a", alg="RS256", use="sig"), True),
        (key("a", alg="RS512"), False),
        (key("a", use="enc"), False),
        (key("a", EC), False),
        (key("a", n="?"), False),
        (key("a", {"kty": "oct", "k": "c2VjcmV0"}), False),
        (key("b"), False),
        ({}, False),
        ("text", False),
    ],
)
def test_which_keys_count(given_key: Any, wanted: bool) -> None:
    cache = KeyCache()
    cache.fetched({"keys": [given_key]}, 0.0)
    assert bool(cache.candidates(header("a"))) is wanted


@pytest.mark.parametrize("alg", ["none", "HS256", "HS512", "", None, 5])
def test_algorithms_that_never_count(alg: Any) -> None:
    cache = KeyCache()
    cache.fetched({"keys": [key("a"), key("a", {"kty": "oct", "k": "c2VjcmV0"})]}, 0.0)
    assert cache.candidates({"alg": alg, "kid": "a"}) == []


def test_a_token_that_names_no_key_is_tried_with_all_that_fit() -> None:
    cache = KeyCache()
    cache.fetched({"keys": [key("a"), key("b"), key("c", EC)]}, 0.0)
    assert len(cache.candidates(header())) == 2
    assert len(cache.candidates(header(alg="ES256"))) == 1


def test_many_keys_are_bounded_and_no_list_is_an_error() -> None:
    cache = KeyCache()
    cache.fetched({"keys": [key(str(number)) for number in range(MAX_KEYS + 1)]}, 0.0)
    assert cache.candidates(header(str(MAX_KEYS - 1)))
    assert not cache.candidates(header(str(MAX_KEYS)))
    with pytest.raises(ValueError, match="no list"):
        cache.fetched({"keys": "x"}, 0.0)
