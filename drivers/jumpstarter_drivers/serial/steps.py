"""Steps of tests: `serial.expect`, `serial.send`, `serial.login`, `serial.run`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import trio
from jumpstarter_client.console.expect import Expect
from jumpstarter_client.console.shell import Shell
from jumpstarter_client.yamltest.steps import StepContext, step
from jumpstarter_proto.errors import JumpstarterError

from jumpstarter_drivers.serial.client import PySerialClient

__all__ = ["expect", "login", "run", "send"]


@step
async def expect(
    client: PySerialClient, context: StepContext, text: str | list[str] = "", *, regex: str | None = None
) -> str:
    """Wait for a text, for one of several, or for a regular expression; its first group is the result."""
    patterns: list[str | re.Pattern[str]] = [text] if isinstance(text, str) else list(text)
    if regex is not None:
        patterns = [re.compile(regex)]
    found = await context.console(client).expect(*patterns, timeout=context.seconds)
    return found.groups[0] or "" if found.groups else found.text


@step
async def send(client: PySerialClient, context: StepContext, text: str, *, enter: bool = True) -> None:
    """Type a text, and Enter after it."""
    console = context.console(client)
    _known(console).shell_since = None  # `reboot` may be what is typed
    await (console.send_line(text) if enter else console.send(text))


@step
async def login(
    client: PySerialClient,
    context: StepContext,
    user: str = "root",
    *,
    password_env: str | None = None,
    new_password_env: str | None = None,
) -> None:
    """Get to a shell: wait for the boot, log in. The password is in the environment's variable `password-env`.

    `new-password-env` names the one for a board that wants another password.
    """
    known = _known(context.console(client))
    known.user, known.password, known.new_password = (
        user,
        _secret(password_env, user),
        _secret(new_password_env, user),
    )
    await _get_to_shell(client, context)


@dataclass
class _Known:
    """What a test knows of a console."""

    user: str = "root"
    password: str | None = field(default=None, repr=False)
    new_password: str | None = field(default=None, repr=False)
    shell_since: int | None = None
    """The `StepContext.switched` at which a shell was there; None if that is not known."""


_consoles: WeakKeyDictionary[Expect, _Known] = WeakKeyDictionary()


def _known(console: Expect) -> _Known:
    return _consoles.setdefault(console, _Known())


async def _get_to_shell(client: PySerialClient, context: StepContext) -> None:
    console = context.console(client)
    known = _known(console)
    known.shell_since = None
    shell = Shell(console, loader_prompt=client.loader_prompt)
    await shell.login(known.user, known.password, new_password=known.new_password, timeout=context.seconds)
    known.shell_since = context.switched


def _secret(variable: str | None, user: str) -> str | None:
    if variable is None:
        return None
    if (secret := os.environ.get(variable)) is None:
        raise JumpstarterError(f"the environment has no {variable}; set it to the password of {user}")
    return secret


@step
async def run(client: PySerialClient, context: StepContext, command: str, *, status: int | None = 0) -> str:
    """Run a command in the board's shell; its output is the result. Any other exit status than `status` fails.

    It waits while the board boots, and logs in if the board asks: as the last `serial.login` did, or else as root.
    """
    started = trio.current_time()
    console = context.console(client)
    known = _known(console)
    if known.shell_since != context.switched:
        await _get_to_shell(client, context)
    known.shell_since = None
    seconds = max(started + context.seconds - trio.current_time(), 0.0)
    result = await Shell(console).run(command, timeout=seconds)
    known.shell_since = context.switched
    for line in result.output.splitlines():
        context.say(line)
    if status is not None and result.exit_code != status:
        raise JumpstarterError(f"`{command}` ended with status {result.exit_code}, not {status}")
    return result.output.strip()
