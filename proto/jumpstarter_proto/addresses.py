"""Addresses as people write them: `HOST:PORT` and `[IPV6]:PORT`, by one parser for all of them."""

from __future__ import annotations

import re

__all__ = ["CONTROLLER_PORT", "AddressSyntaxError", "split_host_port"]

CONTROLLER_PORT = 443
"""The default port of a controller."""
MAX_PORT = 65535
MAX_HOST_LENGTH = 253
"""RFC 1035, 2.3.4, as text."""
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class AddressSyntaxError(ValueError):
    """A text is not an address. The message says what is wrong and how to write one, after an option's name."""


def split_host_port(
    text: str, *, default_port: int | None = None, to_listen: bool = False, example: str = "lab.example:8082"
) -> tuple[str, int]:
    """Host and port of `HOST:PORT` or `[IPV6]:PORT`, without the brackets; white space around it is left out.

    `default_port` is the port of an address without one. An address `to_listen` on may have no host, which is every
    interface and comes as "", and the port 0.

    Raises:
        AddressSyntaxError
    """
    form = "[HOST]:PORT" if to_listen else "HOST:PORT"
    try:
        return _split(text.strip(), default_port, to_listen)
    except ValueError as error:
        raise AddressSyntaxError(
            f"{_cut(text)!r} is not an address: {error}; write {form} such as {example}, or [2001:db8::1]:8082"
        ) from None


def _split(text: str, default_port: int | None, to_listen: bool) -> tuple[str, int]:
    if scheme := _SCHEME.match(text):
        raise ValueError(f"leave out {_cut(scheme[0])}")
    if "/" in text or "@" in text:
        raise ValueError("it may hold only a host and a port")
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket:
            raise ValueError("its bracket is not closed")
        if not _is_ipv6(host):
            raise ValueError("only an IPv6 address may stand in brackets")
        if rest and not rest.startswith(":"):
            raise ValueError("a colon and the port have to follow the brackets")
        colon, port = rest[:1], rest[1:]
    else:
        if text.count(":") > 1:
            raise ValueError(
                "more than one colon may be in an IPv6 address only, which has to stand in brackets"
            )
        host, colon, port = text.partition(":")
        if not (host or to_listen):
            raise ValueError("it has no host")
        if host and not _is_name(host):
            raise ValueError(f"{_cut(host)!r} is not a host name")
    if not colon:
        if default_port is None:
            raise ValueError("it has no port")
        return host, default_port
    least = 0 if to_listen else 1
    if not (port.isascii() and port.isdecimal() and len(port) <= len(str(MAX_PORT))) or not (
        least <= int(port) <= MAX_PORT
    ):
        raise ValueError(f"{_cut(port)!r} is not a port; a port is a number from {least} to {MAX_PORT}")
    return host, int(port)


def _cut(text: str) -> str:
    return text if len(text) <= MAX_HOST_LENGTH else f"{text[:MAX_HOST_LENGTH]}…"


def _is_ipv6(host: str) -> bool:
    import ipaddress  # noqa: PLC0415 - seldom needed

    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


def _is_name(host: str) -> bool:
    """Whether it can be looked up: other names fail in the resolver without a sentence."""
    if len(host) > MAX_HOST_LENGTH + 1:
        return False  # and the codec's time grows with the square of it
    if not host.isascii():
        try:
            host = host.encode("idna").decode()
        except UnicodeError:
            return False
    labels = host.removesuffix(".").split(".")
    return len(host) <= MAX_HOST_LENGTH and all(_LABEL.fullmatch(label) for label in labels)
