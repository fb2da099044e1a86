"""A host whose devices are files in a folder, and its udev events: programs see it through umockdev's library.

The demo plugs adapters into it, and so do tests and benchmarks.
"""
