"""Storage that a multiplexer switches between the host and the board, and flashers."""

INTERFACE = "storage"
DRIVERS = {
    "jumpstarter_driver_opendal.driver.MockStorageMux": "MockStorageMux",
    "jumpstarter_driver_opendal.driver.MockStorageMuxFlasher": "MockStorageMuxFlasher",
    "jumpstarter_driver_opendal.driver.MockFlasher": "MockFlasher",
}
CLIENTS = {
    "jumpstarter_driver_opendal.client.StorageMuxFlasherClient": "StorageMuxFlasherClient",
    "jumpstarter_driver_opendal.client.StorageMuxClient": "StorageMuxClient",
    "jumpstarter_driver_opendal.client.FlasherClient": "FlasherClient",
    "jumpstarter.client.flasher.FlasherClient": "FlasherClient",
}
