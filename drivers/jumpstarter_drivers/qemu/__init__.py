"""Virtual machines of QEMU as boards."""

from jumpstarter_proto.driver_packages import Manifest

__all__ = ["MANIFEST"]

MANIFEST = Manifest(
    package=__name__,
    interface="qemu",
    summary="configure a virtual machine",
    types=("driver.Qemu",),
    clients=("client.QemuClient",),
    type_aliases={"jumpstarter_driver_qemu.driver.Qemu": "driver.Qemu"},
    client_aliases={"jumpstarter_driver_qemu.client.QemuClient": "client.QemuClient"},
)
