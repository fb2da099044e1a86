"""Use boards from Python: `with jumpstarter_client.env() as client: client.power.on()`."""
