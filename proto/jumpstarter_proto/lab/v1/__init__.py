"""Generated messages, stubs and servicers of `jumpstarter_sbc.lab.v1`, beside their .proto file."""
