"""What a daemon and its service manager tell each other: the same for exporter, controller and router."""

from jumpstarter_proto.process.inherited_sockets import inherited_listeners
from jumpstarter_proto.process.service_manager import ServiceManager

__all__ = ["ServiceManager", "inherited_listeners"]
