"""Switches and measures outlets through an MQTT broker: Tasmota, Shelly, Zigbee."""

INTERFACE = "power"
DRIVERS = {"jumpstarter_driver_tasmota.driver.TasmotaPower": "TasmotaPower"}
CLIENTS: dict[str, str] = {}
