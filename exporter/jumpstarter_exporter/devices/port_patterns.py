"""Patterns for USB ports: `1-1.4`, `1-1.*`."""

from __future__ import annotations

import re

from jumpstarter_proto.yaml_files import FieldError

__all__ = ["check_port"]

_PORT = re.compile(r"[0-9*?\[][0-9.*?\[\]!-]*")


def check_port(port: str, *place: str | int) -> None:
    """FieldError at `place` if no port can match the pattern."""
    if not _PORT.fullmatch(port):
        raise FieldError(f"{port!r} is not a USB port; use one such as 1-1.4, or 1-1.* for a hub", *place)
