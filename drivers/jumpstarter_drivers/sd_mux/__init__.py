"""SD card multiplexers on USB: SDWire, SDWireC, SDWire3, USB-SD-Mux."""

from jumpstarter_proto.driver_packages import Manifest

__all__ = ["MANIFEST"]

MANIFEST = Manifest(
    package=__name__,
    interface="storage",
    types=(
        "driver.SDWire",
        "driver.UsbMux",
    ),
    type_aliases={
        "jumpstarter_driver_sdwire.driver.SDWire": "driver.SDWire",
    },
)
