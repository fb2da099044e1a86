"""Generated code of the `jumpstarter.client` packages."""
