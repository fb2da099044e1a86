"""What tools expect of any gRPC server, without a token: health checking and reflection."""

from jumpstarter_proto.reflection.servicer import Reflection

from jumpstarter_controller.standard.health import Health

__all__ = ["Health", "Reflection"]
