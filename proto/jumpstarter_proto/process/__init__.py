"""What a daemon and its service manager tell each other: the same for exporter, controller and router."""

from jumpstarter_proto.process.service_manager import ServiceManager

__all__ = ["ServiceManager"]
