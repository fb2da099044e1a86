"""Leased boards: request a lease, wait until its board is ready, use the board, and release it in every case."""

from __future__ import annotations
