"""Generated messages, stubs and servicers of `jumpstarter.v1`, beside their .proto files."""
