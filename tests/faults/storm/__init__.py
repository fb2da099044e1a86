"""Everything that goes wrong in a lab, at once: `python -m tests.faults.storm` says whether anything got lost.

`weather` decides what happens and when, `lab` does it to real processes, `visitor` is a user who works meanwhile,
`drivers` are the boards' devices, `intruder` is who means harm, and `ledger` reads what all of them wrote down.
"""
