"""Daemons as processes: signals, and the service manager. The same for all daemons."""

from jumpstarter_proto.process.daemon import Daemon, exit_code_of, open_daemon
from jumpstarter_proto.process.descriptor_store import DescriptorStore
from jumpstarter_proto.process.garbage import keep_what_is_there
from jumpstarter_proto.process.inherited_descriptors import Inherited, inherited_descriptors
from jumpstarter_proto.process.service_manager import ServiceManager

__all__ = [
    "Daemon",
    "DescriptorStore",
    "Inherited",
    "ServiceManager",
    "exit_code_of",
    "inherited_descriptors",
    "keep_what_is_there",
    "open_daemon",
]
