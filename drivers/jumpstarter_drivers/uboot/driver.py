"""The host's side of U-Boot: which devices belong together, and what the board's prompt looks like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jumpstarter_exporter.driver import Driver, export
from jumpstarter_exporter.grpc_interface import GrpcInterface, jumpstarter_interface

__all__ = ["UbootConsole"]

_CHILDREN = ("power", "serial")
_MIN_LINE_LENGTH = 128
LINE_LIMIT = "jumpstarter.dev/line-limit"


@dataclass(kw_only=True, eq=False)
class UbootConsole(Driver):
    """A board with U-Boot, made of its power and its console.

        export:
          uboot:
            type: uboot.UbootConsole
            config:
              prompt: "=>"
            children:
              power:
                ref: rpi4.power
              serial:
                ref: rpi4.serial

    Opening and closing it does nothing; the client drives its children.
    """

    client: ClassVar[str] = "jumpstarter_driver_uboot.client.UbootConsoleClient"
    interface: ClassVar[str] = "uboot"
    grpc_interfaces: ClassVar[tuple[GrpcInterface, ...]] = (jumpstarter_interface("uboot"),)

    prompt: str = "\n=>"
    """CONFIG_SYS_PROMPT of the board's U-Boot. Line feeds in front say that it begins a line, as it always does."""

    line_limit: int = 1024
    """CONFIG_SYS_CBSIZE of the board's U-Boot: bytes of a line. It drops what is longer, so that is refused."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.line_limit < _MIN_LINE_LENGTH:
            raise ValueError(f"line_limit is {self.line_limit}; U-Boot's is {_MIN_LINE_LENGTH} or more")
        missing = [name for name in _CHILDREN if name not in self.children]
        if missing:
            raise ValueError(
                f"it has no child {' and no '.join(missing)}; add it, or a `ref` to it, to `children`"
            )
        if not self.prompt.strip():
            raise ValueError("prompt is empty; it takes what U-Boot prints, such as =>")

    def extra_labels(self) -> dict[str, str]:
        """Labels that clients need."""
        return {LINE_LIMIT: str(self.line_limit)}

    @export
    def get_prompt(self) -> str:
        """The prompt to wait for."""
        return self.prompt
