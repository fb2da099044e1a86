"""A board that needs no hardware: power, a console on a pty and a storage it boots from."""

INTERFACE = "virtual"
DRIVERS: dict[str, str] = {}
CLIENTS: dict[str, str] = {}
