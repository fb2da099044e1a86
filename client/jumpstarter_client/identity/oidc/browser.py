"""The authorization code flow (RFC 8252) with PKCE: the browser on this machine is redirected to a local port."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import urllib.parse
from collections.abc import Callable
from functools import partial

import trio

from jumpstarter_client.identity.oidc.provider import SCOPE, LoginError, Provider, Tokens, shown

__all__ = ["log_in"]

LOGIN_SECONDS = 300.0
"""The time limit for the user to log in."""
MAX_REQUEST_BYTES = 16 * 1024
REQUEST_SECONDS = 10.0
_PAGE = (
    b"HTTP/1.1 %s\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%s"
)


async def log_in(
    provider: Provider, on_message: Callable[[str], None], *, port: int = 0, browse: Callable[[str], object]
) -> Tokens:
    """Open the login page of the provider in the browser, and wait for the redirect.

    `browse` opens a URL. `port` is the local port, 0 for any. The redirect goes to `http://localhost:PORT/callback`,
    which has to be registered at the provider.

    Raises:
        LoginError: the user did not log in, or the provider rejected the login.
        FetchError: the provider is not reachable.
    """
    verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(24)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    try:
        listeners = await trio.open_tcp_listeners(port, host="localhost")
    except OSError as error:
        raise LoginError(
            f"cannot listen on port {port}: {error.strerror}; choose another --callback-port"
        ) from None
    # Only one: with port 0 each address family would get a different port.
    for other in listeners[1:]:
        await other.aclose()
    redirect = f"http://localhost:{listeners[0].socket.getsockname()[1]}/callback"
    wanted = {
        "client_id": provider.client_id,
        "response_type": "code",
        "redirect_uri": redirect,
        "scope": SCOPE,
        "state": state,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        "prompt": "consent",  # otherwise some providers give no refresh token
    }
    url = f"{provider.authorization_endpoint}?{urllib.parse.urlencode(wanted)}"
    found = _Callback()
    with trio.move_on_after(LOGIN_SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(
                partial(trio.serve_listeners, partial(_answer, state=state, found=found), listeners[:1])
            )
            on_message(f"Log in with your browser; if it does not open, open {url}")
            await trio.to_thread.run_sync(browse, url, abandon_on_cancel=True)
            await found.came.wait()
            nursery.cancel_scope.cancel()
        answer = found.fields
        if "code" not in answer:
            why = answer.get("error_description") or answer.get("error", "it gave no code")
            raise LoginError(f"{provider.issuer} rejected the login: {shown(why)}; log in again")
        fields = {
            "grant_type": "authorization_code",
            "code": answer["code"],
            "redirect_uri": redirect,
            "code_verifier": verifier,
        }
        return provider.tokens(await provider.ask(provider.token_endpoint, fields))
    raise LoginError(f"no login within {LOGIN_SECONDS / 60:.0f} minutes; log in again")


class _Callback:
    """The parameters of the redirect; the first valid request counts."""

    def __init__(self) -> None:
        self.came = trio.Event()
        self.fields: dict[str, str] = {}

    def add(self, fields: dict[str, str]) -> None:
        if not self.came.is_set():
            self.fields = fields
            self.came.set()


async def _answer(stream: trio.abc.Stream, *, state: str, found: _Callback) -> None:
    """Answer one HTTP request, of the browser or of any other program."""
    request = b""
    with trio.move_on_after(REQUEST_SECONDS):
        try:
            while b"\r\n" not in request and len(request) < MAX_REQUEST_BYTES:
                data = await stream.receive_some(MAX_REQUEST_BYTES)
                if not data:
                    return
                request += bytes(data)
            fields = _callback(request)
            good = hmac.compare_digest(fields.get("state", "").encode(), state.encode())
            if good:
                page, status = "You are logged in; you can close this page.", b"200 OK"
                if "code" not in fields:
                    page = "The login was rejected; see the terminal for the reason."
            else:
                page, status = "Not found.", b"404 Not Found"
            body = page.encode()
            await stream.send_all(_PAGE % (status, len(body), body))
            if good:
                found.add(fields)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return


def _callback(request: bytes) -> dict[str, str]:
    """Return the parameters of `GET /callback?…`; empty for any other request."""
    parts = request.partition(b"\r\n")[0].split(b" ")
    if len(parts) != 3 or parts[0] != b"GET":
        return {}
    target = urllib.parse.urlsplit(parts[1].decode("latin-1"))
    return dict(urllib.parse.parse_qsl(target.query)) if target.path == "/callback" else {}
