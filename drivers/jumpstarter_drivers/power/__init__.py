"""Switches a board's power: GPIO relays, ports of USB hubs, and a mock."""

INTERFACE = "power"
DRIVERS = {
    "jumpstarter_driver_power.driver.MockPower": "MockPower",
    "jumpstarter_driver_power.driver.SyncMockPower": "SyncMockPower",
    "jumpstarter_driver_gpiod.driver.PowerSwitch": "PowerSwitch",
}
CLIENTS = {
    "jumpstarter_driver_power.client.PowerClient": "PowerClient",
    "jumpstarter_driver_power.client.VirtualPowerClient": "VirtualPowerClient",
}
