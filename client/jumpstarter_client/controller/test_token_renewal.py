"""Tokens that are renewed in time, by one command at a time, and never lost half-way."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jwt
import pytest
import trio
import trio.testing
import yaml
from jumpstarter_proto.https import Reply
from jumpstarter_proto.lab.v1.enrolment_grpc import EnrolmentServiceServicer
from jumpstarter_proto.lab.v1.enrolment_pb2 import (
    Issuer,
    ListIssuersRequest,
    ListIssuersResponse,
    RenewTokenRequest,
)
from jumpstarter_proto.lab.v1.lab_pb2 import Credential
from jumpstarter_proto.remote import Trust
from jumpstarter_proto.rpc import RpcError, ServerCall, StatusCode

from jumpstarter_client.controller.client_login import LoginOptions, _provider, log_in_with_issuer
from jumpstarter_client.controller.controller_client import CALL_SECONDS, ControllerClient
from jumpstarter_client.controller.token_renewal import (
    LOCK_SECONDS,
    RENEW_BEFORE_SECONDS,
    is_renewal_due,
    refresh_tokens,
    renew_with_controller,
    with_valid_token,
)
from jumpstarter_client.identity.client_config import ClientConfig, load
from jumpstarter_client.identity.oidc import LoginError
from jumpstarter_client.lease.conftest import CONTROLLER, FakeIssuer, Network


class Enrolment(EnrolmentServiceServicer):
    """A controller that knows one issuer. Nobody hears from it who they are."""

    async def ListIssuers(self, request: ListIssuersRequest, call: object) -> ListIssuersResponse:  # noqa: N802
        return ListIssuersResponse(issuers=[Issuer(url=FakeIssuer.url)])

    async def WhoAmI(self, request: object, call: object) -> None:  # type: ignore[override]  # noqa: N802
        await trio.sleep_forever()


def token(seconds: float) -> str:
    return jwt.encode({"iss": FakeIssuer.url, "exp": time.time() + seconds}, "x" * 32)


Configured = Callable[[float], ClientConfig]


@pytest.fixture
def configured(tmp_path: Path, trust: Trust, network: Network) -> Configured:
    """A configuration whose token is good for so many seconds, and a controller that knows its issuer."""
    network.hosts[CONTROLLER] = [Enrolment()]

    def make(seconds: float) -> ClientConfig:
        file = tmp_path / "ann.yaml"
        file.write_text(
            yaml.safe_dump(
                {
                    "kind": "ClientConfig",
                    "metadata": {"namespace": "lab", "name": "ann"},
                    "endpoint": CONTROLLER,
                    "token": token(seconds),
                    "refresh_token": "old",
                    "tls": {"ca": trust.ca},
                }
            )
        )
        return load(str(file), {})

    return make


@contextmanager
def locked(config: ClientConfig) -> Iterator[Callable[[], None]]:
    """As another command that is renewing; what is given lets go."""
    assert config.path is not None
    with config.path.with_name(f".{config.path.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield lambda: fcntl.flock(file, fcntl.LOCK_UN)


def tokens(issuer: FakeIssuer, new: str) -> None:
    async def answer() -> Reply:
        await trio.sleep(1)
        return Reply(200, {"access_token": new, "refresh_token": "next"})

    issuer.answer = answer


@pytest.mark.parametrize(
    ("left", "renewals"), [(RENEW_BEFORE_SECONDS + 60, 0), (RENEW_BEFORE_SECONDS - 60, 1), (-60, 1)]
)
async def test_a_token_is_renewed_when_it_ends_soon(
    configured: Configured,
    issuer: FakeIssuer,
    left: float,
    renewals: int,
    autojump_clock: trio.testing.MockClock,
) -> None:
    config = configured(left)
    new = token(3600)
    tokens(issuer, new)
    found = await with_valid_token(config)
    assert len(issuer.posts) == renewals
    assert (found.identity.token == new) == bool(renewals)


@pytest.mark.parametrize("left", [RENEW_BEFORE_SECONDS - 60, -60])
async def test_where_nothing_can_be_kept_a_token_is_used_to_its_end_and_then_said_to_be_over(
    configured: Configured, issuer: FakeIssuer, left: float
) -> None:
    config = configured(left)
    assert config.path is not None
    config.path.with_name(f".{config.path.name}.lock").mkdir()  # which not even root opens for writing
    if left > 0:
        assert await with_valid_token(config) is config
    else:
        with pytest.raises(LoginError, match=r"the token has expired .*Is a directory"):
            await with_valid_token(config)
    assert issuer.posts == []


async def test_a_renewal_that_is_cancelled_keeps_what_it_was_given(
    configured: Configured, issuer: FakeIssuer, autojump_clock: trio.testing.MockClock
) -> None:
    config = configured(10)
    new = token(3600)
    tokens(issuer, new)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refresh_tokens, config)
            while not issuer.posts:
                await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    kept = load(str(config.path), {})
    assert (kept.identity.token, kept.refresh_token) == (new, "next")


async def test_a_command_that_renews_for_too_long_is_not_waited_for_any_longer(
    configured: Configured, issuer: FakeIssuer, autojump_clock: trio.testing.MockClock
) -> None:
    config = configured(10)
    with (
        locked(config),
        trio.fail_after(10 * LOCK_SECONDS),
        pytest.raises(LoginError, match="still renewing the token"),
    ):
        await refresh_tokens(config)
    assert trio.current_time() == pytest.approx(LOCK_SECONDS)
    assert issuer.posts == []


async def test_one_renews_and_the_others_take_what_it_wrote(
    configured: Configured, issuer: FakeIssuer, autojump_clock: trio.testing.MockClock
) -> None:
    config = configured(10)
    new = token(3600)
    tokens(issuer, new)
    found: list[str] = []

    async def renew() -> None:
        found.append((await refresh_tokens(config)).identity.token)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(renew)
    assert found == [new] * 3
    assert len(issuer.posts) == 1


@pytest.mark.parametrize("lifetime", [RENEW_BEFORE_SECONDS / 2, 3600])
async def test_a_refresh_token_that_counts_once_is_used_once_however_many_renew_and_however_short_tokens_live(
    configured: Configured, issuer: FakeIssuer, autojump_clock: trio.testing.MockClock, lifetime: float
) -> None:
    config, counts, given = configured(10), ["old"], list[str]()

    async def answer() -> Reply:
        used = issuer.posts[-1][0]["refresh_token"]
        await trio.sleep(1)
        if used != counts[-1]:
            return Reply(400, {"error": "invalid_grant"})  # and some issuers take all others back with it
        counts.append(f"number {len(counts)}")
        given.append(token(lifetime + len(counts)))
        return Reply(200, {"access_token": given[-1], "refresh_token": counts[-1]})

    issuer.answer = answer
    found: list[ClientConfig] = []

    async def command() -> None:
        found.append(await refresh_tokens(config))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(command)
    assert {one.identity.token for one in found} == set(given)
    kept = load(str(config.path), {})
    assert (kept.identity.token, kept.refresh_token) == (given[-1], counts[-1])
    assert {one.refresh_token for one in found} == set(counts[1:])


@pytest.mark.parametrize(("least", "asks"), [(RENEW_BEFORE_SECONDS, 1), (30.0, 0)])
async def test_a_token_of_another_command_is_taken_if_it_is_good_for_long_enough(
    configured: Configured,
    issuer: FakeIssuer,
    least: float,
    asks: int,
    autojump_clock: trio.testing.MockClock,
) -> None:
    config = configured(10)
    theirs = configured(60).identity.token
    tokens(issuer, ours := token(3600))
    found = await refresh_tokens(config, least=least)
    assert len(issuer.posts) == asks
    assert found.identity.token == (ours if asks else theirs)


async def test_whoever_has_renewed_or_failed_to_lets_the_next_one_do_it(
    configured: Configured, issuer: FakeIssuer, autojump_clock: trio.testing.MockClock
) -> None:
    config = configured(10)
    with pytest.raises(LoginError):
        await refresh_tokens(config)
    with locked(config) as drop_connection:
        drop_connection()
    tokens(issuer, token(3600))
    await refresh_tokens(config)
    with locked(config):
        pass


async def test_a_controller_that_does_not_say_who_somebody_is_is_given_up(
    configured: Configured, issuer: FakeIssuer, trust: Trust, autojump_clock: trio.testing.MockClock
) -> None:
    configured(10)
    tokens(issuer, token(3600))
    with trio.fail_after(10 * CALL_SECONDS), pytest.raises(RpcError) as caught:
        await log_in_with_issuer(CONTROLLER, trust, LoginOptions(), lambda _: None)
    assert caught.value.code is StatusCode.DEADLINE_EXCEEDED
    assert trio.current_time() < CALL_SECONDS + 10


class RenewingController(Enrolment):
    """A controller that makes tokens, or not."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.shown: list[str | bytes] = []
        """The tokens with which it was asked."""
        self.failure: RpcError | None = None

    async def RenewToken(  # noqa: N802
        self, request: RenewTokenRequest, call: ServerCall[RenewTokenRequest, Credential]
    ) -> Credential:
        self.shown += [value for key, value in call.metadata if key == "authorization"]
        if self.failure is not None:
            raise self.failure
        self.made.append(jwt.encode({"iat": time.time(), "exp": time.time() + 9000}, "x" * 32))
        return Credential(token=self.made[-1])


@pytest.fixture
def own(configured: Configured, network: Network) -> tuple[ClientConfig, RenewingController]:
    """A configuration whose token of the controller's own is about to end."""
    network.hosts[CONTROLLER] = [controller := RenewingController()]
    config = configured(0)
    assert config.path is not None
    data = yaml.safe_load(config.path.read_text())
    del data["refresh_token"]
    data["token"] = jwt.encode({"iat": time.time() - 8000, "exp": time.time() + 1000}, "x" * 32)
    config.path.write_text(yaml.safe_dump(data))
    return load(str(config.path), {}), controller


async def test_the_controllers_own_tokens_are_renewed_once_for_all_who_use_a_file(
    own: tuple[ClientConfig, RenewingController],
) -> None:
    config, controller = own
    assert is_renewal_due(config)
    found: list[ClientConfig] = []

    async def renew() -> None:
        found.append(await renew_with_controller(config))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(renew)
    assert {one.identity.token for one in found} == set(controller.made)
    assert len(controller.made) == 1
    assert load(str(config.path), {}).identity.token == controller.made[0]
    assert not is_renewal_due(found[0])


async def test_a_token_of_another_command_that_is_about_to_end_too_is_what_a_new_one_is_asked_with(
    own: tuple[ClientConfig, RenewingController],
) -> None:
    config, controller = own
    assert config.path is not None
    theirs = jwt.encode({"iat": time.time() - 7000, "exp": time.time() + 1000}, "x" * 32)
    config.path.write_text(config.path.read_text().replace(config.identity.token, theirs))
    found = await renew_with_controller(config)
    assert controller.shown == [f"Bearer {theirs}"]
    assert found.identity.token == controller.made[0]


async def test_a_token_that_is_not_renewed_goes_on_to_be_used(
    own: tuple[ClientConfig, RenewingController], caplog: pytest.LogCaptureFixture
) -> None:
    config, controller = own
    controller.failure = RpcError(StatusCode.UNIMPLEMENTED, "what?")
    asked = ControllerClient(config)
    for _ in range(2):
        async with asked.open():
            pass
    assert asked.config == config
    assert caplog.text.count("renew it with: jumpstarter auth rotate") == 1


async def test_no_token_is_made_that_cannot_be_kept(
    own: tuple[ClientConfig, RenewingController], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    config, controller = own
    monkeypatch.setattr(os, "replace", full)
    asked = ControllerClient(config)
    async with asked.open():
        pass
    assert controller.made == []
    assert asked.config == config


async def test_who_begins_with_an_old_token_goes_on_with_the_new_one(
    own: tuple[ClientConfig, RenewingController],
) -> None:
    config, controller = own
    asked = ControllerClient(config)
    for _ in range(2):
        async with asked.open():
            pass
    assert asked.config.identity.token == controller.made[0]
    assert len(controller.made) == 1


async def test_of_several_issuers_the_one_that_was_asked_for_is_asked_with_what_the_controller_says_of_it(
    issuer: FakeIssuer,
) -> None:
    known = [
        Issuer(url="https://another.lab", audiences=["theirs"]),
        Issuer(url=FakeIssuer.url, audiences=["ours"]),
    ]
    provider = await _provider(CONTROLLER, known, LoginOptions(issuer=FakeIssuer.url))
    assert (provider.issuer, provider.audiences) == (FakeIssuer.url, ("ours",))
    with pytest.raises(
        LoginError,
        match=r"several issuers; choose one: --issuer https://another.lab or --issuer https://id.lab",
    ):
        await _provider(CONTROLLER, known, LoginOptions())
    assert (await _provider(CONTROLLER, known[1:], LoginOptions())).audiences == ("ours",)
