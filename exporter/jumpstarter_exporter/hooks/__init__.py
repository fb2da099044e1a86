"""Programs of a lab that run before and after a board is used.

`machine` decides when which hook runs and what its end means, `runner` runs one, `life` does it for a session.
"""

from __future__ import annotations
