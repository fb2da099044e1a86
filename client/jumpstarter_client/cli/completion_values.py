"""Names of a controller's things for completion: asked for a moment, and silent when there is nobody to ask."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from jumpstarter_proto.errors import JumpstarterError

from jumpstarter_client.cli.options import SYSTEM_EXPORTERS, Options

if TYPE_CHECKING:
    from jumpstarter_client.controller.controller_client import ControllerCalls, ControllerClient

__all__ = ["ASK_SECONDS", "configurations", "exporters", "labels", "leases", "local_exporters"]

ASK_SECONDS = 1.0
"""Who has not answered by then does not hold the prompt any longer."""


def leases(options: Options) -> list[str]:
    """The client's own."""
    from jumpstarter_client.controller.controller_client import short_name  # noqa: PLC0415 - only for who completes one

    async def ask(calls: ControllerCalls, controller: ControllerClient) -> list[str]:
        return [short_name(one.name) async for one in calls.leases() if one.client == controller.own_name]

    return _asked(options, ask)


def exporters(options: Options) -> list[str]:
    """All of the controller."""
    from jumpstarter_client.controller.controller_client import short_name  # noqa: PLC0415

    async def ask(calls: ControllerCalls, _: ControllerClient) -> list[str]:
        return [short_name(one.name) async for one in calls.exporters()]

    return _asked(options, ask)


def labels(options: Options) -> list[str]:
    """What its exporters have, as selectors."""

    async def ask(calls: ControllerCalls, _: ControllerClient) -> list[str]:
        return [f"{key}={value}" async for one in calls.exporters() for key, value in one.labels.items()]

    return _asked(options, ask)


def configurations() -> list[str]:
    """Aliases of client configurations."""
    from jumpstarter_client.identity.client_config import config_home  # noqa: PLC0415
    from jumpstarter_client.identity.config_files import ConfigFiles  # noqa: PLC0415

    return ConfigFiles(config_home(os.environ)).aliases()


def local_exporters() -> list[str]:
    """Names of exporters' configurations on this machine."""
    from jumpstarter_client.identity.client_config import config_home  # noqa: PLC0415

    found: set[str] = set()
    for folder in (str(config_home(os.environ) / "exporters"), SYSTEM_EXPORTERS):
        with suppress(OSError):
            found |= {name[: -len(".yaml")] for name in os.listdir(folder) if name.endswith(".yaml")}
    return sorted(found)


def _asked(
    options: Options, ask: Callable[[ControllerCalls, ControllerClient], Awaitable[list[str]]]
) -> list[str]:
    import trio  # noqa: PLC0415

    from jumpstarter_client.controller.controller_client import ControllerClient  # noqa: PLC0415
    from jumpstarter_client.identity.client_config import load  # noqa: PLC0415

    async def main() -> list[str]:
        with trio.move_on_after(ASK_SECONDS):
            controller = ControllerClient(load(options.client, os.environ))
            async with controller.open() as calls:
                return await ask(calls, controller)
        return []

    with suppress(JumpstarterError):
        return sorted(set(trio.run(main)))
    return []
