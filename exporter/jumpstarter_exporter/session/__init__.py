"""One lease's or one local user's view of a board: its status, log, calls, byte streams and report."""
