"""The device flow (RFC 8628): the user opens a page on any machine, and types a code there."""

from __future__ import annotations

import enum
from collections.abc import Callable

import trio
from jumpstarter_proto.https import FetchError, Reply

from jumpstarter_client.identity.oidc.provider import SCOPE, LoginError, Provider, Tokens, said, shown

__all__ = ["DevicePoll", "Verdict", "log_in"]

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
INTERVAL = 5.0
SLOWER = 5.0
LONGEST = 1800.0
"""Seconds that a code may count, whatever a provider says."""


class Verdict(enum.Enum):
    """What an answer of the token endpoint means."""

    TOKENS = enum.auto()
    WAIT = enum.auto()
    REFUSED = enum.auto()


class DevicePoll:
    """When to ask again, and what the answers mean. No I/O."""

    def __init__(self, interval: object) -> None:
        is_number = isinstance(interval, int | float) and not isinstance(interval, bool)
        self.interval = min(60.0, max(1.0, float(interval))) if is_number else INTERVAL  # type: ignore[arg-type]

    def answered(self, reply: Reply) -> Verdict:
        """The provider's answer."""
        if reply.status == 200:
            return Verdict.TOKENS
        if reply.status == 429 or reply.status >= 500:
            self.failed()
            return Verdict.WAIT
        error = reply.data.get("error")
        if error == "slow_down":
            self.interval = min(60.0, self.interval + SLOWER)
        return Verdict.WAIT if error in ("authorization_pending", "slow_down") else Verdict.REFUSED

    def failed(self) -> None:
        """It could not be asked, or has trouble of its own; RFC 8628 wants us to ask more rarely."""
        self.interval = min(60.0, self.interval * 2)


async def log_in(provider: Provider, tell: Callable[[str], None]) -> Tokens:
    """Wait until the user has logged in. `tell` gets what they have to do.

    Raises:
        LoginError: they did not, or may not.
        FetchError: the provider cannot be reached.
    """
    reply = await provider.ask(provider.device_endpoint, {"scope": SCOPE})
    device, code = reply.data.get("device_code"), reply.data.get("user_code")
    page = reply.data.get("verification_uri")
    if reply.status != 200 or not (
        isinstance(device, str) and isinstance(code, str) and isinstance(page, str)
    ):
        raise LoginError(f"{provider.issuer} refuses a login with a code: {said(reply)}; try --browser")
    whole = reply.data.get("verification_uri_complete")
    tell(f"Open {shown(page)} in any browser and type the code {shown(code)}")
    if isinstance(whole, str) and whole:
        tell(f"or open {shown(whole)}")
    seconds = reply.data.get("expires_in")
    left = float(seconds) if isinstance(seconds, int) and 0 < seconds < LONGEST else LONGEST
    poll = DevicePoll(reply.data.get("interval"))
    with trio.move_on_after(left):
        while True:
            await trio.sleep(poll.interval)
            try:
                answer = await provider.ask(
                    provider.token_endpoint, {"grant_type": GRANT, "device_code": device}
                )
            except FetchError:
                poll.failed()
                continue
            verdict = poll.answered(answer)
            if verdict is not Verdict.WAIT:
                return provider.tokens(answer)
    raise LoginError("nobody has logged in while the code counted; log in again")
