"""Python imports this at its start, in the tests' process and in every process of ours that a test starts."""

from __future__ import annotations

import os

if os.environ.get("MUTANTS_TRACE"):
    import mutants_trace

    mutants_trace.start_tracing()
