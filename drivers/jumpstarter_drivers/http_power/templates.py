"""Makes requests from the templates of a row. Values are escaped for the place where they are inserted. Without I/O."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Callable, Mapping
from string import Template

from jumpstarter_drivers.http_power.exchange import HttpRequest

__all__ = ["fill_path", "fill_request", "make_request"]

JSON_TYPE = "application/json"
FORM_TYPE = "application/x-www-form-urlencoded"


def make_request(method: str, target: str, body: str | None) -> HttpRequest:
    """A request with the kind of body that its text looks like.

    Raises:
        ValueError: the method or the target would be more than one line's words.
    """
    if not method.isalpha() or not target.isprintable() or " " in target:
        raise ValueError(
            f"{method[:20]!r} or its URL is invalid; write a method such as GET, and a URL without blanks"
        )
    if body is None:
        return HttpRequest(method.upper(), target)
    kind = JSON_TYPE if body.lstrip().startswith(("{", "[")) else FORM_TYPE
    return HttpRequest(method.upper(), target, {"Content-Type": kind}, body.encode())


def fill_request(template: str, values: Mapping[str, str], suffix: str = "") -> HttpRequest:
    """Make a request from `METHOD /target` or `METHOD /target BODY`. `suffix` is added to the target."""
    method, target, *body = template.split(" ", 2)
    escape = _in_json if body and body[0].startswith(("{", "[")) else urllib.parse.quote_plus
    return make_request(
        method,
        _filled(target + suffix, values, lambda text: urllib.parse.quote(text, safe="")),
        _filled(body[0], values, escape) if body else None,
    )


def fill_path(path: str, values: Mapping[str, str]) -> str:
    """A path or pattern of `values`, in which numbers and names are put as they are."""
    return _filled(path, values, str)


def _filled(template: str, values: Mapping[str, str], escape: Callable[[str], str]) -> str:
    return Template(template).substitute({name: escape(value) for name, value in values.items()})


def _in_json(text: str) -> str:
    return json.dumps(text)[1:-1]
