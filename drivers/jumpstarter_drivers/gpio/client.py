"""GPIO lines for the user: `jumpstarter gpio wait-for-active power-good`, or `client.reset.on()`."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import trio
from jumpstarter_client.base import DriverClient
from jumpstarter_client.errors import DriverError
from jumpstarter_client.twin import twin
from jumpstarter_client.verb import verb
from jumpstarter_proto.texts import shown

if TYPE_CHECKING:
    from cyclopts import Parameter
    from jumpstarter_proto.duration_parameter import Seconds

__all__ = ["DigitalInputClient", "DigitalOutputClient", "GpioClient", "PinState"]

SWITCH_SECONDS = 10.0
"""How long an interrupted cycle may take to drive the line again."""


class PinState(enum.Enum):
    """The state of a line. With `active_low`, a low level is active."""

    INACTIVE = 0
    ACTIVE = 1

    def __str__(self) -> str:
        return self.name.lower()


class GpioClient(DriverClient):
    """A line of either direction."""

    interface: ClassVar[str] = "gpio"

    @verb
    @twin
    async def read(self) -> PinState:
        """Say whether the line is active or inactive."""
        answer = await self.call_async("read_pin")
        if answer not in (0, 1, "0", "1"):
            raise DriverError(
                f"the exporter sent {shown(str(answer), 100)} for a line, which is 0 or 1; update it"
            )
        return PinState.ACTIVE if answer in (1, "1") else PinState.INACTIVE

    @verb
    @twin
    async def on(self) -> None:
        """Drive an output to its active level."""
        await self.call_async("on")

    @verb
    @twin
    async def off(self) -> None:
        """Drive an output to its inactive level."""
        await self.call_async("off")

    @verb
    @twin
    async def cycle(self, wait: Annotated[Seconds, Parameter(name=["--wait", "-w"])] = 2.0) -> None:
        """Drive an output to its inactive level, wait, and drive it to its active level.

        Parameters
        ----------
        wait
            Seconds in between. An interrupted cycle drives it to its active level at once.
        """
        if not 0 <= wait < float("inf"):
            raise ValueError(f"wait is {wait:g}; it takes seconds, 0 or more")
        try:
            await self.off.aio()
            await trio.sleep(wait)
        finally:
            with trio.fail_after(SWITCH_SECONDS, shield=True):
                await self.on.aio()

    @verb
    @twin
    async def wait_for_active(
        self, timeout: Annotated[Seconds | None, Parameter(name=["--timeout", "-t"])] = None
    ) -> None:
        """Wait until an input is active, or was so for a moment.

        Parameters
        ----------
        timeout
            Seconds; without it, until Ctrl-C.
        """
        await self.call_async("wait_for_active", timeout)

    @verb
    @twin
    async def wait_for_inactive(
        self, timeout: Annotated[Seconds | None, Parameter(name=["--timeout", "-t"])] = None
    ) -> None:
        """Wait until an input is inactive, or was so for a moment.

        Parameters
        ----------
        timeout
            Seconds; without it, until Ctrl-C.
        """
        await self.call_async("wait_for_inactive", timeout)

    @verb
    @twin
    async def wait_for_edge(
        self,
        edge_type: Literal["rising", "falling"],
        timeout: Annotated[Seconds | None, Parameter(name=["--timeout", "-t"])] = None,
    ) -> None:
        """Wait for the next change of an input: rising is from inactive to active.

        Parameters
        ----------
        edge_type
            rising or falling.
        timeout
            Seconds; without it, until Ctrl-C.
        """
        await self.call_async("wait_for_edge", edge_type, timeout)


class DigitalInputClient(GpioClient):
    """A line that is read, and whose changes are awaited."""

    on = None  # type: ignore[assignment] # drops the verb
    off = None  # type: ignore[assignment]
    cycle = None  # type: ignore[assignment]


class DigitalOutputClient(GpioClient):
    """A line that is driven."""

    wait_for_active = None  # type: ignore[assignment] # drops the verb
    wait_for_inactive = None  # type: ignore[assignment]
    wait_for_edge = None  # type: ignore[assignment]
