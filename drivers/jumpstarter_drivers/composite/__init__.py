"""Groups of devices, and second names for them."""

from jumpstarter_proto.driver_packages import Manifest

__all__ = ["MANIFEST"]

MANIFEST = Manifest(
    package=__name__,
    interface="composite",
    types=(
        "driver.Composite",
        "driver.Proxy",
    ),
    clients=("client.CompositeClient",),
    type_aliases={
        "jumpstarter_driver_composite.driver.Composite": "driver.Composite",
        "jumpstarter_driver_composite.driver.Proxy": "driver.Proxy",
    },
    client_aliases={
        "jumpstarter_driver_composite.client.CompositeClient": "client.CompositeClient",
    },
)
