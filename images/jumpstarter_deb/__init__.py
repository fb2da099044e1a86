"""The Debian packages: `recipe` says what is in them, the other modules are the steps of `build`.

A package contains the project and its libraries in a folder of its own, compiled for the Python of the release. So its
installation downloads nothing, and it shares nothing with other Python programs of the host.
"""
