"""Becoming a client of a controller: what is asked of whom, and what the configuration says then."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio.testing
from jumpstarter_proto.https import Reply
from jumpstarter_proto.lab.v1.enrolment_grpc import EnrolmentServiceServicer
from jumpstarter_proto.lab.v1.enrolment_pb2 import (
    EnrolRequest,
    Issuer,
    ListIssuersRequest,
    ListIssuersResponse,
    WhoAmIRequest,
    WhoAmIResponse,
)
from jumpstarter_proto.lab.v1.lab_pb2 import Credential
from jumpstarter_proto.remote import Identity, Kind, Trust
from jumpstarter_proto.rpc import RpcError, ServerCall, StatusCode

from jumpstarter_client.controller.client_login import (
    LoginOptions,
    TokenRejectedError,
    enrol_with_code,
    log_in_with_issuer,
    log_in_with_token,
)
from jumpstarter_client.identity.oidc import LoginError
from jumpstarter_client.lease.conftest import CONTROLLER, FakeController, FakeIssuer, Network

ELSEWHERE = "elsewhere.lab:8082"


class Enrolment(EnrolmentServiceServicer):
    """A controller that takes the tokens of `issuers`, and knows who somebody is unless it `refuses` to say."""

    def __init__(self, network: Network, *issuers: str) -> None:
        self._network = network
        self._issuers = issuers
        self.codes: list[tuple[str, str]] = []
        self.leaves: tuple[str, ...] = ()
        """Hosts that are gone once a code was used."""
        self.refuses: RpcError | None = None
        self.tokens: list[str | bytes] = []

    async def ListIssuers(self, request: ListIssuersRequest, call: object) -> ListIssuersResponse:  # noqa: N802
        return ListIssuersResponse(issuers=[Issuer(url=url) for url in self._issuers])

    async def Enrol(self, request: EnrolRequest, call: object) -> Credential:  # noqa: N802
        self.codes.append((request.kind, request.code))
        for host in self.leaves:
            self._network.hosts.pop(host, None)
        return Credential(
            kind=request.kind,
            namespace="lab",
            name="ann",
            token="paired",
            endpoint=ELSEWHERE,
        )

    async def WhoAmI(  # noqa: N802
        self, request: WhoAmIRequest, call: ServerCall[WhoAmIRequest, WhoAmIResponse]
    ) -> WhoAmIResponse:
        self.tokens += [value for key, value in call.metadata if key == "authorization"]
        if self.refuses is not None:
            raise self.refuses
        return WhoAmIResponse(namespace="lab", name="ann-from-id")


@pytest.fixture
def enrolment(network: Network, lab: FakeController) -> Enrolment:
    enrolment = Enrolment(network, FakeIssuer.url)
    network.hosts[CONTROLLER] = [*network.hosts[CONTROLLER], enrolment]
    return enrolment


def gives_tokens(issuer: FakeIssuer) -> None:
    async def answer() -> Reply:
        return Reply(200, {"access_token": "new", "refresh_token": "next"})

    issuer.answer = answer


async def test_a_token_makes_a_client_when_the_controller_has_taken_it(
    lab: FakeController, trust: Trust, autojump_clock: trio.testing.MockClock
) -> None:
    identity = Identity(Kind.CLIENT, "lab", "ann", "a-token")
    config = await log_in_with_token(CONTROLLER, trust, identity)
    assert (config.endpoint, config.identity, config.trust) == (CONTROLLER, identity, trust)
    assert [method for method, _ in lab.asked] == ["ListLeases"]
    for code, error in (
        (StatusCode.UNKNOWN, TokenRejectedError),
        (StatusCode.INVALID_ARGUMENT, TokenRejectedError),
        (StatusCode.UNAVAILABLE, RpcError),
    ):

        async def refuse(code: StatusCode = code) -> None:
            raise RpcError(code, "not today")

        lab.before["ListLeases"] = refuse
        with pytest.raises(RpcError, match="not today") as caught:
            await log_in_with_token(CONTROLLER, trust, identity)
        assert type(caught.value) is error


@pytest.mark.parametrize(
    ("leaves", "endpoint"),
    [((), CONTROLLER), ((CONTROLLER,), ELSEWHERE), ((CONTROLLER, ELSEWHERE), ELSEWHERE)],
)
async def test_a_code_makes_a_client_at_the_address_that_was_used_if_it_is_reached_there(  # noqa: PLR0917 - pytest names them
    network: Network,
    enrolment: Enrolment,
    trust: Trust,
    leaves: tuple[str, ...],
    endpoint: str,
    autojump_clock: trio.testing.MockClock,
) -> None:
    network.hosts[ELSEWHERE] = network.hosts[CONTROLLER]
    enrolment.leaves = leaves
    config = await enrol_with_code(CONTROLLER, trust, "ABCD-EFGH")
    assert enrolment.codes == [("Client", "ABCD-EFGH")]
    assert config.identity == Identity(Kind.CLIENT, "lab", "ann", "paired")
    assert (config.endpoint, config.trust) == (endpoint, trust)


async def test_who_logs_in_at_an_issuer_is_who_the_controller_says(
    lab: FakeController,
    enrolment: Enrolment,
    issuer: FakeIssuer,
    trust: Trust,
    autojump_clock: trio.testing.MockClock,
) -> None:
    gives_tokens(issuer)
    told: list[str] = []
    config = await log_in_with_issuer(CONTROLLER, trust, LoginOptions(namespace="other"), told.append)
    assert config.identity == Identity(Kind.CLIENT, "lab", "ann-from-id", "new")
    assert (config.endpoint, config.trust, config.refresh_token) == (CONTROLLER, trust, "next")
    assert enrolment.tokens == ["Bearer new"]
    assert [method for method, _ in lab.asked] == ["ListLeases"], "the controller has taken the token"
    assert any("ABCD" in one for one in told)


async def test_a_controller_that_does_not_say_who_somebody_is_has_to_be_told(
    lab: FakeController,
    enrolment: Enrolment,
    issuer: FakeIssuer,
    trust: Trust,
    autojump_clock: trio.testing.MockClock,
) -> None:
    gives_tokens(issuer)
    enrolment.refuses = RpcError(StatusCode.UNIMPLEMENTED, "what?")
    with pytest.raises(LoginError, match="add --name NAME"):
        await log_in_with_issuer(CONTROLLER, trust, LoginOptions(), lambda _: None)
    config = await log_in_with_issuer(
        CONTROLLER, trust, LoginOptions(namespace="lab", name="ann"), lambda _: None
    )
    assert config.identity == Identity(Kind.CLIENT, "lab", "ann", "new")
    enrolment.refuses = RpcError(StatusCode.UNAUTHENTICATED, "who?")
    with pytest.raises(TokenRejectedError, match=r"who\?"):
        await log_in_with_issuer(CONTROLLER, trust, LoginOptions(name="ann"), lambda _: None)


async def test_where_nobody_can_log_in_it_is_said(
    network: Network, lab: FakeController, issuer: FakeIssuer, trust: Trust, monkeypatch: pytest.MonkeyPatch
) -> None:
    network.hosts[CONTROLLER] = [lab, Enrolment(network)]
    with pytest.raises(LoginError, match=f"{CONTROLLER} accepts no OpenID provider"):
        await log_in_with_issuer(CONTROLLER, trust, LoginOptions(), lambda _: None)
    network.hosts[CONTROLLER] = [lab, Enrolment(network, FakeIssuer.url)]
    fetch = issuer.fetch_json

    async def without(url: str, *arguments: str, **more: str) -> Reply:
        reply = await fetch(url, *arguments, **more)  # type: ignore[arg-type]
        kept = {key: value for key, value in reply.data.items() if not key.startswith(("dev", "auth"))}
        return replace(reply, data=kept)

    monkeypatch.setattr("jumpstarter_client.identity.oidc.provider.fetch_json", without)
    with pytest.raises(LoginError, match=r"https://id\.lab supports neither"):
        await log_in_with_issuer(CONTROLLER, trust, LoginOptions(), lambda _: None)
