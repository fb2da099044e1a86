"""Switches and measures outlets of power strips and PoE ports of switches by SNMP, version 2c and 3."""

from jumpstarter_proto.driver_packages import Manifest

__all__ = ["MANIFEST"]

MANIFEST = Manifest(
    package=__name__,
    interface="power",
    types=(
        "driver.SNMPServer",
        "driver.SnmpOutlet",
    ),
    type_aliases={
        "jumpstarter_driver_snmp.driver.SNMPServer": "driver.SNMPServer",
    },
)
