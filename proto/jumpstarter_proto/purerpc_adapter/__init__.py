"""purerpc's service API on our server and channel.

`servicer` serves a purerpc servicer on our server; `channel` lets a purerpc stub call on our channel. Import from these
modules, and only where a typed service is used: purerpc is not loaded before.
"""
