"""Single GPIO lines of the exporter's host: inputs that are read and awaited, and outputs."""

from jumpstarter_proto.driver_packages import Manifest

__all__ = ["MANIFEST"]

MANIFEST = Manifest(
    package=__name__,
    interface="gpio",
    summary="read, await and set single lines",
    types=("driver.DigitalInput", "driver.DigitalOutput"),
    clients=("client.GpioClient", "client.DigitalInputClient", "client.DigitalOutputClient"),
    steps="steps",
    type_aliases={
        "jumpstarter_driver_gpiod.driver.DigitalInput": "driver.DigitalInput",
        "jumpstarter_driver_gpiod.driver.DigitalOutput": "driver.DigitalOutput",
    },
    client_aliases={
        "jumpstarter_driver_gpiod.client.DigitalInputClient": "client.DigitalInputClient",
        "jumpstarter_driver_gpiod.client.DigitalOutputClient": "client.DigitalOutputClient",
    },
)
