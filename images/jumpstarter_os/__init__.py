"""The image of an operating system that a lab host boots: its recipe and what builds it."""
