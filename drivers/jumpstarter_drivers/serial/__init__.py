"""Serial consoles: local ports, by-id and by-path names, and ports behind a network."""

INTERFACE = "serial"
DRIVERS = {"jumpstarter_driver_pyserial.driver.PySerial": "PySerial"}
CLIENTS = {"jumpstarter_driver_pyserial.client.PySerialClient": "PySerialClient"}
