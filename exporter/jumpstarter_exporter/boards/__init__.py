"""Boards, which are the unit of leases, and their users."""
