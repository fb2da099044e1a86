from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_proto.remote.jwt_claims import MAX_TIME_SECONDS, SUBJECT_AUDIENCE, Claims, read_claims


def token(claims: object) -> str:
    return f"e30.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.c2ln"


def test_what_a_token_says() -> None:
    assert read_claims(token({"iss": "https://localhost:8085", "exp": 5})) == Claims(
        "https://localhost:8085", 5.0
    )
    assert read_claims(token({"iss": "https://localhost:8085"})).is_own
    assert read_claims(token({"aud": "lab"})).audiences == ("lab",)
    assert read_claims(token({"aud": ["lab", 5, "x"]})).audiences == ("lab", "x")
    assert not read_claims(token({"iss": "https://id.example"})).is_own
    assert read_claims(token({"client": "ann"})).client == "ann"


@pytest.mark.parametrize("claims", [[], 5, {"iss": 7, "exp": "soon"}, {"exp": True}, {"client": 5}, None])
def test_what_it_says_wrongly_it_does_not_say(claims: object) -> None:
    assert read_claims(token(claims)) == Claims()


@given(st.text())
def test_any_text_may_be_a_token(text: str) -> None:
    read_claims(text)
    read_claims(f"a.{text}.b")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**400), 10**400) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["iss", "exp", "aud", "client"]), PLAIN))
def test_whatever_a_claim_is_its_token_can_be_read_and_its_end_is_a_date(claims: dict[str, object]) -> None:
    found = read_claims(token(claims))
    if found.expires is not None:
        assert datetime.fromtimestamp(found.expires, UTC).year >= 1970
        assert found.left is not None


@pytest.mark.parametrize(
    ("said", "end"), [(10**400, MAX_TIME_SECONDS), (1e400, MAX_TIME_SECONDS), (-(10**400), 0.0), (1e11, 1e11)]
)
def test_the_end_of_a_token_that_is_out_of_all_bounds_is_the_bound(said: float, end: float) -> None:
    assert read_claims(token({"exp": said})).expires == end


def test_a_token_that_is_deeper_than_anybody_reads() -> None:
    deep = base64.urlsafe_b64encode(b"[" * 100_000).decode()
    assert read_claims(f"e30.{deep}.c2ln") == Claims()


def test_how_long_it_is_good() -> None:
    left = read_claims(token({"exp": time.time() + 100})).left
    assert left is not None
    assert 99 < left <= 100
    assert read_claims(token({})).left is None


@pytest.mark.parametrize(
    ("lifetime", "left", "due"),
    [(365, 31, False), (365, 29, True), (9, 3.1, False), (9, 2.9, True), (None, 31, False), (None, 29, True)],
)
def test_a_token_is_renewed_a_third_of_its_time_or_a_month_before_its_end(
    lifetime: float | None, left: float, due: bool
) -> None:
    expires = time.time() + left * 86400
    claims = {"exp": expires} | ({} if lifetime is None else {"iat": expires - lifetime * 86400})
    seconds = read_claims(token(claims)).renewal_seconds
    assert seconds is not None
    assert (seconds <= 0) is due
    assert read_claims(token({"iat": 1})).renewal_seconds is None


def test_a_token_that_the_controllers_cluster_signs_is_the_controllers() -> None:
    found = read_claims(
        token({"iss": "https://kubernetes.default.svc", "aud": ["lab:8082", f"{SUBJECT_AUDIENCE}x"]})
    )
    assert found.is_own
