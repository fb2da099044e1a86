"""What spans packages: the wire, the house rules, interop with Jumpstarter 0.9, faults, benchmarks."""
