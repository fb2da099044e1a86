"""Steps of tests: `serial.expect`, `serial.send`, `serial.login`, `serial.run`."""

from __future__ import annotations

import os
import re

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
    password, new_password = _secret(password_env, user), _secret(new_password_env, user)
    shell = Shell(context.console(client), loader_prompt=client.loader_prompt)
    await shell.login(user, password, new_password=new_password, timeout=context.seconds)


def _secret(variable: str | None, user: str) -> str | None:
    if variable is None:
        return None
    if (secret := os.environ.get(variable)) is None:
        raise JumpstarterError(f"the environment has no {variable}; set it to the password of {user}")
    return secret


@step
async def run(client: PySerialClient, context: StepContext, command: str, *, status: int | None = 0) -> str:
    """Run a command in the board's shell; its output is the result. Any other exit status than `status` fails."""
    result = await Shell(context.console(client)).run(command, timeout=context.seconds)
    for line in result.output.splitlines():
        context.say(line)
    if status is not None and result.exit_code != status:
        raise JumpstarterError(f"`{command}` ended with status {result.exit_code}, not {status}")
    return result.output.strip()
