"""Helpers that several of the test folders share."""
