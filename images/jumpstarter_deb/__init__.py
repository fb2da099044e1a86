"""The Debian packages: `recipe` says what is in them, the other modules are the steps of `build`.

A package holds the project and the libraries that it needs in a folder of its own, compiled for the release's Python:
nothing is installed from elsewhere when it is unpacked, and nothing is shared with other Python programs of the host.
"""
