"""Generated messages, stubs and servicers of `grpc.health.v1`, beside their .proto file."""
