"""Generated code of gRPC's own `grpc.reflection` packages."""
