"""Byte streams through RouterService: their frames, a stream over a call, and how two streams are joined.

Import from the modules below; this file loads nothing, because a user waits for the prompt.
"""
