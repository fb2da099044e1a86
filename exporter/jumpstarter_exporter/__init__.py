"""Offers a board's interfaces over gRPC: driver base, device tree, session and daemon."""
