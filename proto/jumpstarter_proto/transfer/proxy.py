"""Which proxy a URL is reached by, as the environment says it: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY."""

from __future__ import annotations

import base64
import ipaddress
import urllib.parse
import urllib.request
from dataclasses import dataclass

from jumpstarter_proto.errors import ExitCode, JumpstarterError

__all__ = ["HttpProxy", "ProxyError", "proxy_for"]


class ProxyError(JumpstarterError):
    """The environment names a proxy that cannot be used."""

    status = "FAILED_PRECONDITION"
    exit_code = ExitCode.USAGE


@dataclass(frozen=True)
class HttpProxy:
    """An HTTP proxy."""

    host: str
    port: int
    headers: dict[str, str]
    """Its credentials, if it wants some."""


def proxy_for(scheme: str, host: str, port: int) -> HttpProxy | None:
    """The proxy for a server; None where it is connected to directly. Raises ProxyError."""
    proxies = urllib.request.getproxies_environment()
    text = proxies.get(scheme) or proxies.get("all")
    if not text or urllib.request.proxy_bypass(f"{host}:{port}"):
        return None
    if _is_in_networks(host, proxies.get("no", "")):
        return None
    parts = urllib.parse.urlsplit(text if "://" in text else f"http://{text}")
    try:
        proxy_port = parts.port or 80
    except ValueError:
        proxy_port = 0
    if parts.scheme != "http" or not parts.hostname or not proxy_port:
        shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        raise ProxyError(f"the proxy {shown} in the environment cannot be used; give one as http://HOST:PORT")
    headers = {}
    if parts.username is not None:
        user = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        headers["HttpProxy-Authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
    return HttpProxy(parts.hostname, proxy_port, headers)


def _is_in_networks(host: str, no_proxy: str) -> bool:
    """Whether the host is an address of a network in NO_PROXY (`10.0.0.0/8`), which Python's own rules leave out."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    for entry in no_proxy.split(","):
        try:
            if address in ipaddress.ip_network(entry.strip(), strict=False):
                return True
        except ValueError:
            continue
    return False
