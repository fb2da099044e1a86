"""What tools expect of any gRPC server, without a token: health checking and reflection."""

from jumpstarter_controller.standard.health import Health
from jumpstarter_controller.standard.reflection import Reflection

__all__ = ["Health", "Reflection"]
