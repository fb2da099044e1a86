"""Generated code of gRPC's own `grpc.health` packages."""
