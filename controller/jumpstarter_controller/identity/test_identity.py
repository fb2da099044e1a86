"""Tokens, keys, metadata and pairing codes."""

from __future__ import annotations

import re
import stat
from dataclasses import replace
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from jumpstarter_proto.private_files import PrivateFileError, write_private
from jumpstarter_proto.remote import Kind
from jumpstarter_proto.rpc import RpcError, StatusCode

from jumpstarter_controller.identity import (
    Authenticator,
    Subject,
    TokenError,
    TokenIssuer,
    authorise,
    new_code,
    random_key,
    redeem,
    signing_key,
)
from jumpstarter_controller.identity.authenticate import name_from_username
from jumpstarter_controller.identity.jumpstarter_key import JUMPSTARTER_AUDIENCE, jumpstarter_key
from jumpstarter_controller.identity.keys import ROUTER_KEY_BYTES
from jumpstarter_controller.identity.tokens import MAX_TOKEN_LENGTH

KEY = ec.generate_private_key(ec.SECP256R1())
ANN = Subject(Kind.CLIENT, "lab", "ann", "1")


def issuer(now: float = 1000.0, endpoint: str = "lab:8082") -> TokenIssuer:
    return TokenIssuer(KEY, endpoint, clock=lambda: now)


def test_a_token_that_was_good_before_ends_all_the_same() -> None:
    now = [1000.0]
    tokens = TokenIssuer(KEY, "lab:8082", clock=lambda: now[0])
    token, expiry = tokens.issue(ANN, 60)
    for _ in range(2):
        assert tokens.verify(token) == (ANN, expiry)
    with pytest.raises(TokenError):
        tokens.verify(token[:-2])
    now[0] = expiry
    with pytest.raises(TokenError, match="expired"):
        tokens.verify(token)


def test_a_clock_that_is_set_back_locks_nobody_out() -> None:
    token, expiry = issuer(10_000.0).issue(ANN, 60.0)
    assert issuer(10_000.0 - 3600).verify(token) == (ANN, expiry)


def test_what_is_remembered_of_tokens_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jumpstarter_controller.identity.tokens.MAX_VERIFIED_TOKENS", 10)
    tokens = issuer()
    for number in range(25):
        token, _ = tokens.issue(Subject(Kind.CLIENT, "lab", f"c{number}", "1"))
        tokens.verify(token)
        assert len(tokens._known) <= 10


def metadata(token: str, **changes: str | None) -> list[tuple[str, str | bytes]]:
    headers = {
        "authorization": f"Bearer {token}",
        "jumpstarter-kind": "Client",
        "jumpstarter-namespace": "lab",
    }
    headers["jumpstarter-name"] = "ann"
    for key, value in changes.items():
        name = key.replace("_", "-")
        headers.pop(name)
        if value is not None:
            headers[name] = value
    return list(headers.items())


def test_a_token_is_known_again_until_it_ends() -> None:
    token, expiry = issuer().issue(ANN, 60.0)
    assert issuer(1059.0).verify(token) == (ANN, 1060.0)
    assert expiry == 1060.0
    with pytest.raises(TokenError, match="token is expired"):
        issuer(1060.0).verify(token)
    with pytest.raises(TokenError, match="another controller"):
        issuer(endpoint="other:1").verify(token)


@pytest.mark.parametrize("text", ["", "a.b.c", "x" * 20000])
def test_what_is_not_a_token(text: str) -> None:
    with pytest.raises(TokenError):
        issuer().verify(text)


def test_forged_tokens() -> None:
    claims = {"iss": "https://localhost:8085", "aud": ["lab:8082"], "sub": str(ANN), "iat": 1000, "exp": 5000}
    other = ec.generate_private_key(ec.SECP256R1())
    for token in (
        jwt.encode(claims, other, algorithm="ES256"),
        jwt.encode(claims, "", algorithm="none"),
        jwt.encode(claims, "k" * 32, algorithm="HS256"),
        jwt.encode(claims | {"sub": "nobody"}, KEY, algorithm="ES256"),
        jwt.encode({k: v for k, v in claims.items() if k != "exp"}, KEY, algorithm="ES256"),
    ):
        with pytest.raises(TokenError):
            issuer().verify(token)


def test_a_long_token_is_not_looked_at() -> None:
    token, _ = issuer().issue(ANN)
    claims = jwt.decode(token, options={"verify_signature": False})
    long = jwt.encode(claims | {"more": "x" * MAX_TOKEN_LENGTH}, KEY, algorithm="ES256")
    with pytest.raises(TokenError, match="too long"):
        issuer().verify(long)


async def test_callers_and_what_is_wrong_with_them() -> None:
    authenticator = Authenticator(issuer())
    token, _ = issuer().issue(ANN)
    caller = await authenticator.caller(metadata(token), Kind.CLIENT)
    assert (caller.namespace, caller.name, caller.subject) == ("lab", "ann", ANN)
    authorise(caller, ("1".__eq__, ""))
    for uid in ("2", ""):
        with pytest.raises(RpcError, match="permission denied for client lab/ann"):
            authorise(caller, (uid.__eq__, ""))
    with pytest.raises(RpcError, match="it was deleted"):
        authorise(caller, None)
    for sent, code, text in (
        ([], StatusCode.UNAUTHENTICATED, "missing authorization header"),
        (metadata(token) * 2, StatusCode.INVALID_ARGUMENT, "multiple authorization headers"),
        (metadata(token, authorization="Basic x"), StatusCode.INVALID_ARGUMENT, "malformed"),
        (
            metadata(token, jumpstarter_kind=None),
            StatusCode.INVALID_ARGUMENT,
            "missing metadata: jumpstarter-kind",
        ),
        (metadata(token, jumpstarter_kind="Exporter"), StatusCode.INVALID_ARGUMENT, "object kind mismatch"),
        (metadata(token, jumpstarter_name=""), StatusCode.INVALID_ARGUMENT, "jumpstarter-name"),
    ):
        with pytest.raises(RpcError, match=text) as caught:
            await authenticator.caller(sent, Kind.CLIENT)
        assert caught.value.code is code
    # The name is the caller's word; the token is of somebody else.
    other = await authenticator.caller(metadata(token, jumpstarter_name="bob"), Kind.CLIENT)
    with pytest.raises(RpcError, match="permission denied"):
        authorise(other, ("1".__eq__, ""))


@pytest.mark.parametrize(
    ("username", "name"),
    [("dex:Ann.Lee@lab", "ann-lee-lab"), ("x:--a__b--", "a-b"), ("y:" + "a" * 80, "a" * 63)],
)
def test_names_of_external_users(username: str, name: str) -> None:
    assert name_from_username(username) == name


def test_keys_are_made_once_and_for_their_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "key"
    first = signing_key(path)
    assert signing_key(path).private_numbers() == first.private_numbers()
    assert random_key(tmp_path / "r") == random_key(tmp_path / "r")
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}
    path.chmod(0o640)
    with pytest.raises(PrivateFileError, match="chmod 600"):
        signing_key(path)
    with pytest.raises(PrivateFileError, match="no private key"):
        signing_key(tmp_path / "r")
    write_private(tmp_path / "short", bytes(ROUTER_KEY_BYTES - 1))
    with pytest.raises(PrivateFileError, match="too short for a key"):
        random_key(tmp_path / "short")


@given(st.lists(st.integers(0, 3), max_size=12), st.floats(0, 1200))
def test_a_code_is_redeemed_once_and_in_time(order: list[int], later: float) -> None:
    made = [new_code(Kind.EXPORTER, "lab", f"e{n}", {}, now=0.0) for n in range(4)]
    left = [record for _, record in made]
    for number in order:
        text, record = made[number]
        good = record in left and later < 600
        if good:
            left.remove(redeem(left, f" {text.lower()} ", Kind.EXPORTER, later))
            continue
        with pytest.raises(RpcError) as caught:
            redeem(left, text, Kind.EXPORTER, later)
        assert caught.value.code is StatusCode.PERMISSION_DENIED
    with pytest.raises(RpcError):
        redeem(left, made[0][0], Kind.CLIENT, 0.0)


KEYS = {
    b"secret": 0xFBFD4262982603FFE19E6133BE19A8135D3944F3BE88E8783F04234D40754C3B,
    b"": 0x7E774BDBD9FEF761436ED3986DDA3F9C91FC3C92EA0E91DBBF5615D2111CF4D2,
    b"0123456789abcdef0123456789abcdef": 0xAA8408F3E93A370012BFFE3728A86CF4B4597BF8C135450078A1DA72836FAC37,
    b"jumpstarter": 0xE3D8AF6285549244A1281BC4E1B00C1323C833D4875490FCE22A86E0FBA42914,
    b"a\n": 0x5F23241F69D6BEF2E1140008A0A16E184A62C4B7C799B9540CC110CC90A052B0,
}
"""Made by Go 1.26 with filippo.io/keygen 1.0.0, which a controller of Jumpstarter 0.9 uses."""


@pytest.mark.parametrize("secret", KEYS)
def test_the_key_of_a_jumpstarter_controller_is_the_one_that_go_makes(secret: bytes) -> None:
    assert jumpstarter_key(secret).private_numbers().private_value == KEYS[secret]


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        (Kind.CLIENT, "admin client rotate), or log in again"),
        (Kind.EXPORTER, "admin pair exporter NAME --renew), and enrol again"),
        (Kind.HOST, "admin pair host NAME --renew), and enrol again"),
    ],
)
def test_who_has_an_expired_token_is_told_how_to_get_another(kind: Kind, command: str) -> None:
    tokens = issuer()
    with pytest.raises(TokenError, match=re.escape(f"(jumpstarter-controller {command}")):
        tokens.verify(tokens.issue(replace(ANN, kind=kind), -5.0)[0])


async def test_tokens_of_a_former_controller_count_until_they_end_and_no_others() -> None:
    former = TokenIssuer(jumpstarter_key(b"secret"), JUMPSTARTER_AUDIENCE, clock=lambda: 1000.0)
    both = Authenticator(issuer(), former=former)
    about = [("jumpstarter-namespace", "lab"), ("jumpstarter-name", "ann"), ("jumpstarter-kind", "Client")]

    async def subject(authenticator: Authenticator, token: str) -> Subject | None:
        caller = await authenticator.caller([("authorization", f"Bearer {token}"), *about], Kind.CLIENT)
        return caller.subject

    old, ended = former.issue(ANN)[0], former.issue(ANN, -5.0)[0]
    assert await subject(both, old) == ANN
    assert await subject(both, issuer().issue(ANN)[0]) == ANN
    with pytest.raises(TokenError, match="token is expired"):
        await subject(both, ended)
    with pytest.raises(TokenError, match="token is expired"):
        await subject(both, issuer().issue(ANN, -5.0)[0])
    with pytest.raises(TokenError, match="is for another controller, not lab:8082"):
        await subject(both, issuer(endpoint="other:1").issue(ANN)[0])
    with pytest.raises(TokenError, match="failed to authenticate token"):
        await subject(Authenticator(issuer()), old)
    other = TokenIssuer(jumpstarter_key(b"other"), JUMPSTARTER_AUDIENCE, clock=lambda: 1000.0)
    with pytest.raises(TokenError, match="failed to authenticate token"):
        await subject(both, other.issue(ANN)[0])
