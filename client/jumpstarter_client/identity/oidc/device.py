"""The device flow (RFC 8628): the user opens a page on any machine and types a code there."""

from __future__ import annotations

import enum
from collections.abc import Callable

import trio
from jumpstarter_proto.https import FetchError, Reply

from jumpstarter_client.identity.oidc.provider import SCOPE, LoginError, Provider, Tokens, error_text, shown

__all__ = ["DevicePoll", "PollResult", "log_in"]

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:device_code"
DEFAULT_POLL_SECONDS = 5.0
SLOW_DOWN_SECONDS = 5.0
MAX_CODE_SECONDS = 1800.0
"""The longest validity of a code, whatever the provider says."""


class PollResult(enum.Enum):
    """What a reply of the token endpoint means."""

    TOKENS = enum.auto()
    WAIT = enum.auto()
    REFUSED = enum.auto()


class DevicePoll:
    """When to poll again, and what the replies mean. No I/O."""

    def __init__(self, interval: object) -> None:
        is_number = isinstance(interval, int | float) and not isinstance(interval, bool)
        self.interval = min(60.0, max(1.0, float(interval))) if is_number else DEFAULT_POLL_SECONDS  # type: ignore[arg-type]

    def answered(self, reply: Reply) -> PollResult:
        """Handle a reply of the provider."""
        if reply.status == 200:
            return PollResult.TOKENS
        if reply.status == 429 or reply.status >= 500:
            self.failed()
            return PollResult.WAIT
        error = reply.data.get("error")
        if error == "slow_down":
            self.interval = min(60.0, self.interval + SLOW_DOWN_SECONDS)
        return PollResult.WAIT if error in ("authorization_pending", "slow_down") else PollResult.REFUSED

    def failed(self) -> None:
        """Handle a failed request: poll more slowly, as RFC 8628 requires."""
        self.interval = min(60.0, self.interval * 2)


async def log_in(provider: Provider, on_message: Callable[[str], None]) -> Tokens:
    """Wait until the user has logged in. `on_message` gets the instructions.

    Raises:
        LoginError: the user did not log in, or the provider rejected the login.
        FetchError: the provider is not reachable.
    """
    reply = await provider.ask(provider.device_endpoint, {"scope": SCOPE})
    device, code = reply.data.get("device_code"), reply.data.get("user_code")
    page = reply.data.get("verification_uri")
    if reply.status != 200 or not (
        isinstance(device, str) and isinstance(code, str) and isinstance(page, str)
    ):
        raise LoginError(
            f"{provider.issuer} rejected a login with a code: {error_text(reply)}; try --browser"
        )
    whole = reply.data.get("verification_uri_complete")
    on_message(f"Open {shown(page)} in any browser and type the code {shown(code)}")
    if isinstance(whole, str) and whole:
        on_message(f"or open {shown(whole)}")
    seconds = reply.data.get("expires_in")
    left = float(seconds) if isinstance(seconds, int) and 0 < seconds < MAX_CODE_SECONDS else MAX_CODE_SECONDS
    poll = DevicePoll(reply.data.get("interval"))
    with trio.move_on_after(left):
        while True:
            await trio.sleep(poll.interval)
            try:
                answer = await provider.ask(
                    provider.token_endpoint, {"grant_type": GRANT_TYPE, "device_code": device}
                )
            except FetchError:
                poll.failed()
                continue
            result = poll.answered(answer)
            if result is not PollResult.WAIT:
                return provider.tokens(answer)
    raise LoginError("the code expired before anybody logged in; log in again")
