"""The demo: what a user does, on virtual boards. `python -m tools.demo`, or `make demo`."""
