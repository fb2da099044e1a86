"""The client of `lab_drivers`, for Jumpstarter 0.9."""

from jumpstarter.client import DriverClient


class GreeterClient(DriverClient):
    """Calls the driver."""

    def greet(self, name):
        return self.call("greet", name)
