from __future__ import annotations

import base64
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_proto.remote.claims import Claims, read_claims


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


def test_a_token_that_is_deeper_than_anybody_reads() -> None:
    deep = base64.urlsafe_b64encode(b"[" * 100_000).decode()
    assert read_claims(f"e30.{deep}.c2ln") == Claims()


def test_how_long_it_is_good() -> None:
    left = read_claims(token({"exp": time.time() + 100})).left
    assert left is not None
    assert 99 < left <= 100
    assert read_claims(token({})).left is None
