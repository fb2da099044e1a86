"""What counts of another issuer's token, with clocks and failures that a real one does not have at hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jwt
import pytest
import trio
import trio.testing
from cryptography.hazmat.primitives.asymmetric import ec
from jumpstarter_proto.https import FetchError, Reply
from jumpstarter_proto.remote import Kind, ReasonCode, reason_of
from jwt.algorithms import ECAlgorithm

from jumpstarter_controller.identity import Authenticator, TokenError, TokenIssuer
from jumpstarter_controller.identity.oidc import Issuer, IssuerSettings
from jumpstarter_controller.identity.oidc.keys import MAX_KEY_AGE_SECONDS, MIN_FETCH_INTERVAL_SECONDS
from jumpstarter_controller.identity.tokens import MAX_TOKEN_LENGTH

URL = "https://id.example"
NOW = 1_000_000.0


@dataclass
class Server:
    """An issuer's documents."""

    keys: dict[str, ec.EllipticCurvePrivateKey] = field(default_factory=dict)
    fetches: int = 0
    asked: int = 0
    fails: bool = False
    issuer: str = URL

    async def fetch(self, url: str, _: str) -> Reply:
        self.asked += 1
        await trio.sleep(0.01)
        if self.fails:
            raise FetchError("it is down")
        if url == f"{URL}/.well-known/openid-configuration":
            return Reply(200, {"issuer": self.issuer, "jwks_uri": f"{URL}/keys"})
        assert url == f"{URL}/keys"
        self.fetches += 1
        public = {kid: ECAlgorithm.to_jwk(one.public_key(), as_dict=True) for kid, one in self.keys.items()}
        return Reply(200, {"keys": [jwk | {"kid": kid} for kid, jwk in public.items()]})

    def token(self, kid: str = "one", signed_by: str | None = None, **changes: Any) -> str:
        claims = {"iss": URL, "aud": "lab", "sub": "ann", "iat": NOW - 5, "exp": NOW + 100} | changes
        claims = {key: value for key, value in claims.items() if value is not None}
        return jwt.encode(claims, self.keys[signed_by or kid], algorithm="ES256", headers={"kid": kid})

    def trusted(self, **settings: Any) -> Issuer:
        given = {"url": URL, "audiences": ("lab", "jumpstarter"), "prefix": "lab:"} | settings
        return Issuer(IssuerSettings(**given), clock=lambda: NOW, fetch=self.fetch)


@pytest.fixture
def server() -> Server:
    return Server({"one": ec.generate_private_key(ec.SECP256R1())})


async def test_who_it_is(server: Server) -> None:
    assert await server.trusted().verify(server.token()) == ("lab:ann", NOW + 100)
    assert (await server.trusted(claim="name").verify(server.token(name="Ann Lee")))[0] == "lab:Ann Lee"
    assert (await server.trusted(prefix="").verify(server.token(aud=["other", "jumpstarter"])))[0] == "ann"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"exp": NOW - 31}, "token is expired"),
        ({"exp": float("nan")}, "failed to authenticate|token is expired"),
        ({"exp": None}, "exp"),
        ({"exp": "soon"}, "failed to authenticate"),
        ({"nbf": NOW + 31}, "from the future"),
        ({"iat": NOW + 31}, "from the future"),
        ({"aud": "else"}, "not for lab or jumpstarter"),
        ({"aud": None}, "aud"),
        ({"iss": "https://else.example"}, "failed to authenticate"),
        ({"sub": None}, "has no user name"),
        ({"sub": ""}, "has no user name|failed"),
        ({"sub": "x" * 300}, "has no user name"),
    ],
)
async def test_what_does_not_count(server: Server, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TokenError, match=sentence):
        await server.trusted().verify(server.token(**changes))


@pytest.mark.parametrize("changes", [{"exp": NOW - 29}, {"nbf": NOW + 29}, {"iat": NOW + 29}])
async def test_clocks_may_differ_a_little(server: Server, changes: dict[str, Any]) -> None:
    await server.trusted().verify(server.token(**changes))


@pytest.mark.parametrize(("prefix", "name"), [("", "internal:client:lab:ann:1"), ("internal:", "ann")])
async def test_nobody_of_another_issuer_passes_for_one_of_our_own(
    server: Server, prefix: str, name: str
) -> None:
    own = TokenIssuer(ec.generate_private_key(ec.SECP256R1()), "lab:1")
    authenticator = Authenticator(own, (server.trusted(prefix=prefix),))
    metadata = [
        ("authorization", f"Bearer {server.token(sub=name)}"),
        ("jumpstarter-kind", "Client"),
        ("jumpstarter-namespace", "lab"),
        ("jumpstarter-name", "ann"),
    ]
    with pytest.raises(TokenError, match="users of another issuer cannot be named internal:"):
        await authenticator.caller(metadata, Kind.CLIENT)


async def test_a_long_token_is_not_looked_at(server: Server) -> None:
    with pytest.raises(TokenError, match="too long"):
        await server.trusted().verify(server.token(more="x" * MAX_TOKEN_LENGTH))
    assert server.asked == 0


async def test_an_email_address_has_to_be_verified_and_other_claims_may_be_required(server: Server) -> None:
    by_email = server.trusted(claim="email")
    await by_email.verify(server.token(email="a@b", email_verified=True))
    with pytest.raises(TokenError, match="has not verified"):
        await by_email.verify(server.token(email="a@b", email_verified=False))
    of_lab = server.trusted(required={"group": "lab"})
    await of_lab.verify(server.token(group="lab"))
    with pytest.raises(TokenError, match="'group' is not 'lab'"):
        await of_lab.verify(server.token(group="else"))


async def test_forgeries(server: Server) -> None:
    server.keys["two"] = ec.generate_private_key(ec.SECP256R1())
    issuer = server.trusted()
    good = server.token()
    head, body, _ = good.split(".")
    for token in (
        server.token("one", signed_by="two"),
        f"{head}.{body}.",
        jwt.encode({"iss": URL, "aud": "lab", "sub": "ann", "exp": NOW + 9}, "", algorithm="none"),
        jwt.encode({"iss": URL, "aud": "lab", "sub": "ann", "exp": NOW + 9}, "k" * 32, algorithm="HS256"),
        "x",
        "a.b.c",
        "x" * 20_000,
    ):
        with pytest.raises(TokenError):
            await issuer.verify(token)
    await issuer.verify(good)


async def test_one_fetch_serves_all_and_garbage_causes_few(
    server: Server, autojump_clock: trio.testing.MockClock
) -> None:
    issuer = server.trusted()
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(issuer.verify, server.token())
    assert server.fetches == 1
    forged = server.token("other", signed_by="one")
    for _ in range(100):
        with pytest.raises(TokenError, match="no key"):
            await issuer.verify(forged)
    assert server.fetches == 1
    await trio.sleep(MIN_FETCH_INTERVAL_SECONDS)
    server.keys["new"] = ec.generate_private_key(ec.SECP256R1())
    await issuer.verify(server.token("new"))
    assert server.fetches == 2


async def test_keys_go_on_while_the_issuer_is_down(
    server: Server, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    issuer = server.trusted()
    await issuer.verify(server.token())
    server.fails = True
    await trio.sleep(MAX_KEY_AGE_SECONDS + 1)
    await issuer.verify(server.token())
    assert "its keys as of before go on" in caplog.text
    server.keys["new"] = ec.generate_private_key(ec.SECP256R1())
    await trio.sleep(MIN_FETCH_INTERVAL_SECONDS)
    with pytest.raises(TokenError, match="cannot be fetched"):
        await issuer.verify(server.token("new"))
    server.fails = False
    await trio.sleep(MIN_FETCH_INTERVAL_SECONDS)
    await issuer.verify(server.token("new"))


async def test_an_issuer_that_is_down_is_not_asked_for_each_token(
    server: Server, autojump_clock: trio.testing.MockClock
) -> None:
    issuer = server.trusted()
    server.fails = True
    with pytest.raises(TokenError, match="cannot be fetched"):
        await issuer.verify(server.token())
    for _ in range(10):
        with pytest.raises(TokenError, match="cannot be fetched") as caught:  # to log in again would not help
            await issuer.verify(server.token())
        assert reason_of(caught.value) == ReasonCode.TOKEN_UNFIT
    assert server.asked == 1
    server.fails = False
    await trio.sleep(MIN_FETCH_INTERVAL_SECONDS)
    await issuer.verify(server.token())
    server.keys["new"] = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(TokenError, match="no key"):
        await issuer.verify(server.token("new"))


async def test_while_one_fetches_new_keys_the_old_ones_do_for_others(
    server: Server, autojump_clock: trio.testing.MockClock
) -> None:
    issuer = server.trusted()
    await issuer.verify(server.token())
    await trio.sleep(MAX_KEY_AGE_SECONDS)
    began = trio.current_time()
    took: list[float] = []

    async def verify() -> None:
        await issuer.verify(server.token())
        took.append(trio.current_time() - began)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(verify)
    assert took[:2] == [0.0, 0.0]
    assert took[2] > 0
    assert server.fetches == 2


async def test_a_document_of_somebody_else_does_not_count(server: Server) -> None:
    server.issuer = "https://evil.example"
    with pytest.raises(TokenError, match="cannot be fetched"):
        await server.trusted().verify(server.token())
