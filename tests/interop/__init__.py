"""Jumpstarter 0.9.0's client with our exporter, and our client with its exporter."""
