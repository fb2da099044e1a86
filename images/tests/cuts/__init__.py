"""Does a power cut at any moment leave a host that boots and is still itself?

`write_log` and `power_cut` determine, without I/O, what a disk may contain after a cut. `recording` makes the log of an
emulated host's card, `disks` makes the disks, `file_systems` and `promises` check them; `python -m cuts` runs it all.
"""
