"""Random bytes for everything that parses a peer's: `make fuzz`, and briefly with the tests.

The engine is a small one of our own, guided by which lines ran: atheris has no wheels for aarch64.
"""
