"""The wire contract: messages, typed stubs and servicers, value and stream codecs, and gRPC over trio.

Import from the modules below; this file loads nothing, because a user waits for the prompt.
"""
