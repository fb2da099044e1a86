"""Generated code of the `jumpstarter_sbc.lab` packages."""
