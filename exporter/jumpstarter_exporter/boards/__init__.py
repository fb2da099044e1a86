"""What is leased as one: a board, and who uses it."""
