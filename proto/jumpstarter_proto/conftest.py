"""What tests of streams share with those of gRPC."""

from __future__ import annotations

from jumpstarter_proto.rpc.conftest import contexts

__all__ = ["contexts"]
