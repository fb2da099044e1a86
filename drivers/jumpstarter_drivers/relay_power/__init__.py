"""Relay boards and switched hubs on USB and on serial ports, as power switches of boards."""

from jumpstarter_proto.driver_packages import Manifest

__all__ = ["MANIFEST"]

MANIFEST = Manifest(
    package=__name__,
    interface="power",
    types=(
        "driver.HidRelay",
        "driver.NoyitoPowerHID",
        "driver.NoyitoPowerSerial",
        "driver.RelayBoard",
        "driver.SerialRelay",
        "driver.Ykush",
    ),
    type_aliases={
        "jumpstarter_driver_noyito_relay.driver.NoyitoPowerHID": "driver.NoyitoPowerHID",
        "jumpstarter_driver_noyito_relay.driver.NoyitoPowerSerial": "driver.NoyitoPowerSerial",
        "jumpstarter_driver_yepkit.driver.Ykush": "driver.Ykush",
    },
)
