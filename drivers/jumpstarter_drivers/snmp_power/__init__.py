"""Switches and measures outlets of power strips and PoE ports of switches by SNMP, version 2c and 3."""

INTERFACE = "power"
DRIVERS = {"jumpstarter_driver_snmp.driver.SNMPServer": "SNMPServer"}
CLIENTS: dict[str, str] = {}
