"""Parses the arguments of verbs and prints their help with cyclopts, from the signature and docstring of the method."""

from __future__ import annotations

import functools
import inspect
import shlex
import sys
import types
from collections.abc import Callable
from typing import Any

import cyclopts
from jumpstarter_proto.duration_parameter import Seconds
from jumpstarter_proto.usage_errors import usage_sentence

from jumpstarter_client.cli.options import ArgumentsError
from jumpstarter_client.verb import Verb

__all__ = ["option_names", "parse", "print_help"]


def parse(
    verb: Verb, arguments: list[str], title: str, device: str = ""
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and named arguments for the verb's method, converted to the declared types.

    `device` is the word by which the user named the device, if they did; it is no longer among the arguments.

    Raises:
        ArgumentsError: the arguments do not fit the signature.
    """
    try:
        _, bound, _ = _app(verb, title).parse_args(
            arguments, print_error=False, exit_on_error=False, help_on_error=False, verbose=False
        )
    except cyclopts.UnknownOptionError as error:
        parameters = inspect.signature(inspect.unwrap(verb.function)).parameters.values()
        takes_words = any(one.kind is inspect.Parameter.VAR_POSITIONAL for one in parameters)
        sentence = usage_sentence(error, title)
        if takes_words:
            option = str(error).rstrip(".?")
            command = f"{title} {shlex.quote(device)}" if device else title
            sentence = f"{option}; a command with options goes after --: {command} -- {shlex.join(arguments)}"
        raise ArgumentsError(" ".join(sentence.split())) from None
    except cyclopts.CycloptsError as error:
        raise ArgumentsError(usage_sentence(error, title)) from None
    return bound.args, bound.kwargs


def print_help(verb: Verb, title: str, *, device: bool) -> None:
    """Print the help of a verb on stdout."""
    _app(verb, f"{title} [DEVICE]" if device else title).help_print([])
    sys.stdout.flush()


def option_names(verb: Verb) -> list[str]:
    """Return the options of a verb, as its help shows them."""
    arguments = _app(verb, "").assemble_argument_collection()
    return [name for one in arguments if one.show for name in one.names if name.startswith("-")]


def _app(verb: Verb, title: str) -> cyclopts.App:
    app = cyclopts.App(
        name=title, help_flags=(), help_format="plaintext", version_flags=(), result_action="return_value"
    )
    app.default(_without_self(verb))
    return app


def _without_self(verb: Verb) -> Any:
    function = _without_result(inspect.unwrap(verb.function))
    # Driver clients import these for the type checker only, so their names are given here.
    names = {"Parameter": cyclopts.Parameter, "Seconds": Seconds}
    signature = inspect.signature(function, eval_str=True, locals=names)

    @functools.wraps(function)
    def command(*args: object, **kwargs: object) -> None:
        """Carry the signature only."""

    del command.__wrapped__  # the wrapped signature still has `self`
    kept = list(signature.parameters.values())[1:]
    command.__signature__ = signature.replace(parameters=kept, return_annotation=None)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in kept}
    return command


def _without_result(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a copy without the type of its result, which driver clients may import for the type checker only."""
    copy = types.FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__doc__, copy.__kwdefaults__ = function.__doc__, function.__kwdefaults__
    copy.__annotations__ = {name: hint for name, hint in function.__annotations__.items() if name != "return"}
    return copy
