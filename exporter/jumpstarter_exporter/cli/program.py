"""What all commands of `jumpstarter-exporter` and its daemon have in common."""

from __future__ import annotations

import logging

from jumpstarter_proto.log_lines import LineFormatter

__all__ = ["OUR_LOGGERS", "PROGRAM", "set_up_logging"]

PROGRAM = "jumpstarter-exporter"
OUR_LOGGERS = ("jumpstarter_exporter", "jumpstarter_drivers", "jumpstarter_proto", "driver")


def set_up_logging(level: str, *filters: logging.Filter) -> None:
    """Log to stderr from `level` on. Users' log streams get everything from INFO on, whatever stderr gets."""
    handler = logging.StreamHandler()
    for one in filters:
        handler.addFilter(one)
    handler.setFormatter(LineFormatter())
    handler.setLevel(level.upper())
    root = logging.getLogger()
    root.addHandler(handler)
    # Other people's debugging includes every header, and with it passphrases.
    root.setLevel(logging.INFO)
    for name in OUR_LOGGERS:
        logging.getLogger(name).setLevel(min(logging.INFO, handler.level))
