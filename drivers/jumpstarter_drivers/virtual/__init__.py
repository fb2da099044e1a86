"""A board that needs no hardware: power, a console on a pty and a storage it boots from."""

from jumpstarter_proto.driver_packages import Manifest

__all__ = ["MANIFEST"]

MANIFEST = Manifest(
    package=__name__,
    interface="virtual",
    types=("driver.VirtualBoard",),
)
