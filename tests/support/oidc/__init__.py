"""A real OpenID provider for tests: node's `oidc-provider`, a certified one, with TLS on the loopback."""

from __future__ import annotations

import functools
import hashlib
import html
import http.cookiejar
import json
import re
import shutil
import ssl
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from tests.interop import exporters
from tests.support import peers

FOLDER = Path(__file__).parent
PACKAGES = ("package.json", "package-lock.json")
AUDIENCE = "jumpstarter"
# Without a network npm would wait for two minutes.
NPM_RETRIES = ("--fetch-retries=1", "--fetch-retry-mintimeout=2000")
NPM_OPTIONS = ("--no-audit", "--no-fund", "--ignore-scripts", *NPM_RETRIES)


def installed() -> Path:
    """The folder with the server and what it needs, filled on first use; skips the test if that cannot be."""
    found = _filled()
    if isinstance(found, str):
        pytest.skip(f"missing: {found}")
    return found


@functools.cache
def _filled() -> Path | str:
    """The folder, or what is missing, which is not tried a second time in one process."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        return "npm, for an OpenID provider; apt install npm"
    content = b"".join((FOLDER / name).read_bytes() for name in (*PACKAGES, "server.mjs"))
    path = peers.cache() / "peers" / f"oidc-{hashlib.sha256(content).hexdigest()[:16]}"
    with peers.build_lock("oidc"):
        if not (path / peers.MARKER).exists():
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(parents=True)
            for name in (*PACKAGES, "server.mjs"):
                shutil.copy(FOLDER / name, path)
            try:
                peers.run([npm, "ci", "--prefix", str(path), *NPM_OPTIONS])
            except peers.PeerUnavailableError as error:
                return f"npm cannot install an OpenID provider: {error.summary}"
            (path / peers.MARKER).touch()
    return path


def signing_keys(kid: str, algorithm: str) -> dict[str, Any]:
    """One new private key, as a JWK set."""
    if algorithm.startswith("ES"):
        jwk = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()), as_dict=True)
    else:
        jwk = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 2048), as_dict=True)
    jwk.pop("key_ops", None)
    return {"keys": [{**jwk, "kid": kid, "use": "sig", "alg": algorithm}]}


@dataclass
class Provider:
    """Where it is, and what its users do with a browser."""

    home: Path
    seconds: int = 3600
    """How long an access token is good."""
    port: int = field(default_factory=exporters.free_port)
    authority: trustme.CA = field(default_factory=trustme.CA)

    _keys: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self.ca = self.home / "ca.pem"
        self.authority.cert_pem.write_to_path(self.ca)
        certificate = self.authority.issue_cert("localhost")
        self._chain, self._key = self.home / "server.pem", self.home / "server.key"
        certificate.cert_chain_pems[0].write_to_path(self._chain)
        certificate.private_key_pem.write_to_path(self._key)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @contextmanager
    def running(self, *, kid: str = "one", algorithm: str = "RS256") -> Iterator[None]:
        """The server, signing with the key of that id, which is made for its first use."""
        if (kid, algorithm) not in self._keys:
            self._keys[kid, algorithm] = signing_keys(kid, algorithm)
        settings = {
            "port": self.port,
            "certificate": str(self._chain),
            "key": str(self._key),
            "jwks": self._keys[kid, algorithm],
            "seconds": self.seconds,
        }
        command: exporters.Command = ["node", str(installed() / "server.mjs"), json.dumps(settings)]
        with exporters.running(command, self.home) as daemon:
            line = daemon.first_line()
            assert line == "ready", line
            yield

    def browser(self) -> Browser:
        return Browser(ssl.create_default_context(cafile=str(self.ca)))

    def robot_token(self) -> str:
        """An access token of the client `robot`, by its own secret."""
        fields = {"grant_type": "client_credentials", "client_id": "robot", "client_secret": "robot-secret"}
        text = self.browser().open(f"{self.url}/token", fields)
        return str(json.loads(text)["access_token"])


class Browser:
    """As much of one as a login needs: cookies, redirects and forms."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPSHandler(context=context),
            urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()),
            urllib.request.ProxyHandler({}),
        )
        self.url = ""

    def open(self, url: str, fields: dict[str, str] | None = None) -> str:
        data = urllib.parse.urlencode(fields).encode() if fields is not None else None
        with self._opener.open(url, data, timeout=60) as reply:
            self.url = reply.url
            return str(reply.read().decode())

    def log_in(self, url: str, name: str) -> str:
        """Follow a link, log in, agree to everything; what the last page says."""
        text = self.open(url)
        for _ in range(6):
            form = re.search(r"<form[^>]*action=\"([^\"]*)\"[^>]*>(.*?)</form>", text, re.DOTALL)
            if form is None or "abort" in form[1]:
                return text
            fields = {
                html.unescape(key): html.unescape(value)
                for key, value in re.findall(r"name=\"([^\"]*)\"[^>]*?value=\"([^\"]*)\"", form[2])
            }
            if 'name="login"' in form[2]:
                fields |= {"login": name, "password": "any"}
            text = self.open(urllib.parse.urljoin(self.url, html.unescape(form[1])), fields)
        raise AssertionError(f"the login never ends: {text}")


@contextmanager
def provider(home: Path, **settings: Any) -> Iterator[Provider]:
    found = Provider(home, **settings)
    with found.running():
        yield found
