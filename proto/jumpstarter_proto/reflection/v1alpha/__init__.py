"""Generated messages, stubs and servicers of `grpc.reflection.v1alpha`, beside their .proto file."""
