"""Our gRPC against grpcio, in both directions."""
