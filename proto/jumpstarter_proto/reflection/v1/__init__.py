"""Generated messages, stubs and servicers of `grpc.reflection.v1`, beside their .proto file."""
