"""Groups of devices, and second names for them."""

INTERFACE = "composite"
DRIVERS = {
    "jumpstarter_driver_composite.driver.Composite": "Composite",
    "jumpstarter_driver_composite.driver.Proxy": "Proxy",
}
CLIENTS = {"jumpstarter_driver_composite.client.CompositeClient": "CompositeClient"}
