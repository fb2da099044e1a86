"""Switches and measures outlets through an MQTT broker: Tasmota, Shelly, Zigbee."""

from jumpstarter_proto.driver_packages import Manifest

__all__ = ["MANIFEST"]

MANIFEST = Manifest(
    package=__name__,
    interface="power",
    types=(
        "driver.MqttOutlet",
        "driver.TasmotaPower",
    ),
    type_aliases={
        "jumpstarter_driver_tasmota.driver.TasmotaPower": "driver.TasmotaPower",
    },
)
