"""Does a power cut at any moment leave a host that boots and is still itself?

`write_log` and `power_cut` say, without I/O, what a disk may have after a cut. `recording` makes the log of an emulated
host's card, `disks` the disks, `file_systems` and `promises` look at them, and `python -m cuts` does all of it.
"""
