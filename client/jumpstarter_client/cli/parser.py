"""A verb's own arguments and its help, by cyclopts, from the signature and docstring of its method."""

from __future__ import annotations

import functools
import inspect
import sys
from typing import Any

import cyclopts
from jumpstarter_proto.usage_errors import usage_sentence

from jumpstarter_client.cli.options import ArgumentsError
from jumpstarter_client.verb import Verb

__all__ = ["parse", "print_help"]


def parse(verb: Verb, arguments: list[str], title: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and named arguments for the verb's method, converted to the types that it declares.

    Raises:
        ArgumentsError: the arguments do not fit; says how to see what does.
    """
    try:
        _, bound, _ = _app(verb, title).parse_args(
            arguments, print_error=False, exit_on_error=False, help_on_error=False, verbose=False
        )
    except cyclopts.CycloptsError as error:
        raise ArgumentsError(usage_sentence(error, title)) from None
    return bound.args, bound.kwargs


def print_help(verb: Verb, title: str, *, device: bool) -> None:
    """The verb's help, on stdout."""
    _app(verb, f"{title} [DEVICE]" if device else title).help_print([])
    sys.stdout.flush()


def _app(verb: Verb, title: str) -> cyclopts.App:
    app = cyclopts.App(
        name=title, help_flags=(), help_format="plaintext", version_flags=(), result_action="return_value"
    )
    app.default(_without_self(verb))
    return app


def _without_self(verb: Verb) -> Any:
    function = verb.function
    # Driver clients import `Parameter` for the type checker only: a verb that is given no options needs no parser.
    signature = inspect.signature(function, eval_str=True, locals={"Parameter": cyclopts.Parameter})

    @functools.wraps(function)
    def command(*args: object, **kwargs: object) -> None:
        """Only its signature is used."""

    del command.__wrapped__  # its signature has the client first
    kept = list(signature.parameters.values())[1:]
    command.__signature__ = signature.replace(parameters=kept, return_annotation=None)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in kept}
    return command
