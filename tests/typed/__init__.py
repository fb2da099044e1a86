"""Boards that are driven by their gRPC services, from programs that know nothing of Jumpstarter's libraries."""
