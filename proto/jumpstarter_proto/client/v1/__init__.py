"""Generated messages, stubs and servicers of `jumpstarter.client.v1`, beside their .proto file."""
