from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_client.leasing.tokens import Claims, read_claims, replace_tokens


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


@pytest.mark.parametrize("claims", [[], 5, {"iss": 7, "exp": "soon"}, {"exp": True}, None])
def test_what_it_says_wrongly_it_does_not_say(claims: object) -> None:
    assert read_claims(token(claims)) == Claims()


@given(st.text())
def test_any_text_may_be_a_token(text: str) -> None:
    read_claims(text)
    read_claims(f"a.{text}.b")


def test_only_the_tokens_of_a_file_change(tmp_path: Path) -> None:
    file = tmp_path / "ann.yaml"
    file.write_text("# mine\ntoken: old\nendpoint: lab:1\n")
    replace_tokens(file, "new")
    assert file.read_text() == "# mine\ntoken: new\nendpoint: lab:1\n"
    replace_tokens(file, "newer", "again")
    assert file.read_text() == "# mine\ntoken: newer\nendpoint: lab:1\nrefresh_token: again\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
