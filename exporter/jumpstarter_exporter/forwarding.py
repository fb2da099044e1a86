"""Devices whose driver runs elsewhere: calls, byte streams and files are passed on as they are."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jumpstarter_exporter.decorators import MethodSummary
from jumpstarter_exporter.driver import Driver

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from google.protobuf.struct_pb2 import Value
    from jumpstarter_proto.byte_streams.router_stream import RouterStream
    from jumpstarter_proto.rpc import Metadata

__all__ = ["ForwardingDriver"]


@dataclass(kw_only=True, eq=False)
class ForwardingDriver(Driver):
    """A driver with methods that are not known here. It is open while its methods are called.

    They raise RpcError with the status of the other side, or DeviceError.
    """

    @property
    def process_labels(self) -> dict[str, str]:
        """Labels about its process, which are not the device's and end with it."""
        return {}

    @property
    @abstractmethod
    def method_summaries(self) -> Sequence[MethodSummary]:
        """Its methods, as far as they are known."""

    @abstractmethod
    async def forward_call(self, method: str, arguments: Sequence[Value]) -> Value:
        """Call a method with one result."""

    @abstractmethod
    def forward_results(self, method: str, arguments: Sequence[Value]) -> AsyncGenerator[Value, None]:
        """Call a streaming method. To be closed by its user."""

    @abstractmethod
    def forward_stream(self, method: str) -> AbstractAsyncContextManager[RouterStream]:
        """Open a byte stream for the block."""

    @abstractmethod
    def forward_resource(
        self, encoding: str | None
    ) -> AbstractAsyncContextManager[tuple[Metadata, RouterStream]]:
        """Offer a file for the block: the headers that the user gets, and the file's bytes both ways."""
