"""Runs drivers of Jumpstarter 0.9 unchanged: a child process with Jumpstarter's own session, mounted in our tree.

`groups` decides, without I/O, which devices of a configuration are hosted and which of them share a child. `learning`
asks a child at load what these devices are, and `specs` makes specifications of that. `driver.HostedDriver` is such a
device in a session: it shares a child with its neighbours (`process`), whose life is in `lifecycle`. `child` is the
program of the child: it runs in the other interpreter and imports nothing of ours. An exporter without hosted devices
imports nothing from here.
"""
