"""Driver interfaces as gRPC services: .proto files, and what protoc and purerpc's plugin make of them."""
