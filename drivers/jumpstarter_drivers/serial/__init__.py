"""Serial consoles: local ports, by-id and by-path names, and ports behind a network."""

from jumpstarter_proto.driver_packages import Manifest

__all__ = ["MANIFEST"]

MANIFEST = Manifest(
    package=__name__,
    interface="serial",
    summary="use a board's console, and see what it has printed",
    types=("driver.PySerial",),
    clients=("client.PySerialClient",),
    steps="steps",
    type_aliases={
        "jumpstarter_driver_pyserial.driver.PySerial": "driver.PySerial",
    },
    client_aliases={
        "jumpstarter_driver_pyserial.client.PySerialClient": "client.PySerialClient",
    },
)
