"""A console in the user's terminal: what the board says, what the user types, and our keys in between."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, cast

import trio
from jumpstarter_client.errors import DriverError, NotFoundError
from jumpstarter_client.node import Node
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.rpc import StatusCode
from jumpstarter_proto.texts import shown

from jumpstarter_drivers.serial.console_keys import HELP, Keys, TerminalKey
from jumpstarter_drivers.serial.terminal import CLOSED, read_stdin, say, write_all

if TYPE_CHECKING:
    from jumpstarter_drivers.power.client import PowerClient
    from jumpstarter_drivers.serial.client import PySerialClient

__all__ = ["converse", "power_of"]


def power_of(node: Node) -> Node:
    """The power switch of the board that a console belongs to: the nearest one in the tree.

    Raises:
        NotFoundError: there is none, or several are equally near.
    """
    above = node.parent
    while above is not None:
        found = {one.uuid: one for one in above.walk() if one.interface == "power"}
        if len(found) > 1:
            paths = ", ".join(shown(one.path) for one in found.values())
            raise NotFoundError(f"the board's power can be any of {paths}; use `jumpstarter power cycle`")
        if found:
            return next(iter(found.values()))
        above = above.parent
    raise NotFoundError("no device beside this console switches the board's power")


async def converse(client: PySerialClient, last: int) -> str:
    """Run until the user leaves or the console ends; returns which. The `last` earlier lines are printed first."""
    async with client.attach_async() as stream, trio.open_nursery() as nursery:
        say(f"Console of {client.path or 'the board'}; Ctrl-B three times leaves, Ctrl-] h shows more keys.")
        if why := await client.waits_for_async():
            say(f"Waiting for its port: {why}")
        if last:
            await _show_last(client, last)

        async def show() -> None:
            while data := await stream.receive_some():
                await write_all(sys.stdout.fileno(), data)
            nursery.cancel_scope.cancel()

        nursery.start_soon(show)
        nursery.start_soon(_say_that_it_is_off, client)
        keys = Keys()
        while typed := await read_stdin():
            for part in keys.feed(typed):
                if part.data:
                    await stream.send_all(part.data)
                if part.key is TerminalKey.EXIT:
                    nursery.cancel_scope.cancel()
                    return "\nLeft the console."
                if part.key is not None:
                    nursery.start_soon(_obey, client, part.key)
    raise DriverError(CLOSED, code=StatusCode.UNAVAILABLE)


async def _show_last(client: PySerialClient, last: int) -> None:
    try:
        async for record in client.history.aio(lines=last):
            if record.kind == "data":
                await write_all(sys.stdout.fileno(), record.data)
    except DriverError as error:
        say(f"no output from before: {error.details}")


async def _say_that_it_is_off(client: PySerialClient) -> None:
    """The reason for a console that is silent, where the power switch reports its state."""
    try:
        power = power_of(client.node)
        state = await cast("PowerClient", power.client).status.aio()
    except JumpstarterError:
        return  # nobody asked for it
    if state == "off":
        say(f"{power.path} is off; Ctrl-] p switches it on.")


async def _obey(client: PySerialClient, key: TerminalKey) -> None:
    """A key that leaves the console open: whatever goes wrong is said, and the console goes on."""
    try:
        match key:
            case TerminalKey.POWER:
                power = power_of(client.node)
                say(f"\n[power-cycling {power.path}]")
                await cast("PowerClient", power.client).cycle.aio()
            case TerminalKey.BOOKMARK:
                await client.mark.aio("from the console")
                say("\n[bookmark set]")
            case _:
                say("\n" + HELP)
    except JumpstarterError as error:
        say(f"\n[{getattr(error, 'details', '') or error}]")
