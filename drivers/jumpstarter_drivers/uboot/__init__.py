"""U-Boot on a board's console: stop it, run commands, read and set its environment."""

from jumpstarter_proto.driver_packages import Manifest

__all__ = ["MANIFEST"]

MANIFEST = Manifest(
    package=__name__,
    interface="uboot",
    summary="run commands in the boot loader U-Boot",
    types=("driver.UbootConsole",),
    clients=("client.UbootConsoleClient",),
    type_aliases={
        "jumpstarter_driver_uboot.driver.UbootConsole": "driver.UbootConsole",
    },
    client_aliases={
        "jumpstarter_driver_uboot.client.UbootConsoleClient": "client.UbootConsoleClient",
    },
)
