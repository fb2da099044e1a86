"""Switches and measures outlets with a web interface: Shelly, Tasmota, power strips in racks, any URLs."""

INTERFACE = "power"
DRIVERS = {
    "jumpstarter_driver_http_power.driver.HttpPower": "HttpPower",
    "jumpstarter_driver_energenie.driver.EnerGenie": "EnerGenie",
}
CLIENTS: dict[str, str] = {}
