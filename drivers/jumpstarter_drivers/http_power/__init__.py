"""Switches and measures outlets with a web interface: Shelly, Tasmota, power strips in racks, any URLs."""

from jumpstarter_proto.driver_packages import Manifest

__all__ = ["MANIFEST"]

MANIFEST = Manifest(
    package=__name__,
    interface="power",
    types=(
        "driver.EnerGenie",
        "driver.HttpOutlet",
        "driver.HttpPower",
    ),
    type_aliases={
        "jumpstarter_driver_http_power.driver.HttpPower": "driver.HttpPower",
        "jumpstarter_driver_energenie.driver.EnerGenie": "driver.EnerGenie",
    },
)
