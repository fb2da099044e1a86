"""Storage that a multiplexer switches between the host and the board, and flashers."""

from jumpstarter_proto.driver_packages import Manifest

__all__ = ["MANIFEST"]

MANIFEST = Manifest(
    package=__name__,
    interface="storage",
    summary="flash a board's SD card or disk, and switch it between host and board",
    types=(
        "driver.BlockStorage",
        "driver.FileStorage",
        "driver.MockFlasher",
        "driver.MockStorageMux",
        "driver.MockStorageMuxFlasher",
    ),
    clients=(
        "client.StorageMuxFlasherClient",
        "client.StorageMuxClient",
        "client.FlasherClient",
    ),
    steps="steps",
    type_aliases={
        "jumpstarter_driver_opendal.driver.MockStorageMux": "driver.MockStorageMux",
        "jumpstarter_driver_opendal.driver.MockStorageMuxFlasher": "driver.MockStorageMuxFlasher",
        "jumpstarter_driver_opendal.driver.MockFlasher": "driver.MockFlasher",
    },
    client_aliases={
        "jumpstarter_driver_opendal.client.StorageMuxFlasherClient": "client.StorageMuxFlasherClient",
        "jumpstarter_driver_opendal.client.StorageMuxClient": "client.StorageMuxClient",
        "jumpstarter_driver_opendal.client.FlasherClient": "client.FlasherClient",
        "jumpstarter_driver_qemu.client.QemuFlasherClient": "client.FlasherClient",
        "jumpstarter.client.flasher.FlasherClient": "client.FlasherClient",
    },
)
