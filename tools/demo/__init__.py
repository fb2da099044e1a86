"""The demo: the work of a user, on virtual boards. `python -m tools.demo`, or `make demo`."""
