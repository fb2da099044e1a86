"""Flashing only the blocks that differ from what the medium has.

The client hashes the image, the exporter hashes what the medium has; only blocks that differ travel and are written.
`layout` says what a block and a window of blocks are, `plan` which windows are read and which blocks are asked for,
`knowledge` what is known of the medium, all without I/O; `messages` is what both ends send each other. `receive` is the
exporter's end with the device, `send` the client's with the image.
"""
