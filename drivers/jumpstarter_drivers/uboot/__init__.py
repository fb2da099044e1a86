"""U-Boot on a board's console: stop it, run commands, read and set its environment."""

INTERFACE = "uboot"
DRIVERS = {"jumpstarter_driver_uboot.driver.UbootConsole": "UbootConsole"}
CLIENTS = {"jumpstarter_driver_uboot.client.UbootConsoleClient": "UbootConsoleClient"}
