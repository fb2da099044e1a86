"""Switches a board's power: GPIO relays, ports of USB hubs, and a mock."""

from jumpstarter_proto.driver_packages import Manifest

__all__ = ["MANIFEST"]

MANIFEST = Manifest(
    package=__name__,
    interface="power",
    summary="switch and measure a board's power",
    types=(
        "driver.CommandPower",
        "driver.GpioRelay",
        "driver.HubPort",
        "driver.MockPower",
        "driver.PowerSwitch",
        "driver.SupplyGroup",
        "driver.SyncMockPower",
    ),
    clients=(
        "client.PowerClient",
        "client.VirtualPowerClient",
    ),
    steps="steps",
    type_aliases={
        "jumpstarter_driver_power.driver.MockPower": "driver.MockPower",
        "jumpstarter_driver_power.driver.SyncMockPower": "driver.SyncMockPower",
        "jumpstarter_driver_gpiod.driver.PowerSwitch": "driver.PowerSwitch",
    },
    client_aliases={
        "jumpstarter_driver_noyito_relay.client.NoyitoPowerClient": "client.PowerClient",
        "jumpstarter_driver_power.client.PowerClient": "client.PowerClient",
        "jumpstarter_driver_power.client.VirtualPowerClient": "client.VirtualPowerClient",
        "jumpstarter_driver_snmp.client.SNMPServerClient": "client.PowerClient",
    },
)
