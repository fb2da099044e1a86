"""What a daemon and its service manager tell each other: the same for exporter, controller and router."""

from jumpstarter_proto.process.descriptor_store import DescriptorStore
from jumpstarter_proto.process.inherited_descriptors import Inherited, inherited_descriptors
from jumpstarter_proto.process.service_manager import ServiceManager

__all__ = ["DescriptorStore", "Inherited", "ServiceManager", "inherited_descriptors"]
