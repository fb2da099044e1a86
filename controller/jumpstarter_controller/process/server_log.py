"""The log of controller and router on stderr: one line for each event, with the objects concerned as fields.

Fields are the record's own attributes, put there by `extra=about(...)`. Tokens are removed from
all lines, including texts of peers, and the text of a peer never begins a new line.
"""

from __future__ import annotations

import datetime
import json
import logging
import re
import sys
from typing import Literal

from jumpstarter_proto.log_lines import MAX_MESSAGE_LENGTH, RecordFormatter
from jumpstarter_proto.rpc import LimitedLog
from jumpstarter_proto.texts import printable, shown

from jumpstarter_controller.lab import Client, Exporter, Host, Lease, PairingCode, Policy, Record

__all__ = ["FIELDS", "JsonFormatter", "RefusalLog", "TextFormatter", "about", "configure", "without_tokens"]

FIELDS = ("namespace", "lease", "client", "exporter", "host", "policy", "code", "router", "peer")
"""In the order of a line."""
MAX_FIELD_LENGTH = 300
"""Characters of one field."""
_TOKEN = re.compile(r"eyJ[\w-]{4,}\.[\w-]+(\.[\w-]*)?")


def configure(level: str, form: Literal["text", "json"]) -> None:
    """Write the log of this process to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # It would say every header, and with that every token.
    logging.getLogger("hpack").setLevel(logging.INFO)


def about(*records: Record, **fields: str) -> dict[str, str]:
    """The `extra` argument of a log call: these records, and further fields."""
    found: dict[str, str] = {}
    for record in records:
        found["namespace"] = record.namespace
        match record:
            case Lease():
                found |= {"lease": record.name, "client": record.client}
                if record.exporter:
                    found["exporter"] = record.exporter
            case Exporter(host=host) if host:
                found |= {"exporter": record.name, "host": host}
            case Client() | Exporter() | Host() | Policy() | PairingCode():
                found[record.KIND] = record.name
    return found | {key: value for key, value in fields.items() if value}


class RefusalLog(LimitedLog):
    """A rate-limited log of rejected calls."""

    def note(self, why: Exception, **fields: str) -> None:
        """Log a rejected call."""
        self.write(f"refused: {str(why)[:MAX_FIELD_LENGTH]}", about(**fields))


def _fields(record: logging.LogRecord) -> dict[str, str]:
    found = {}
    for key in FIELDS:
        value = getattr(record, key, None)
        if isinstance(value, str) and value:
            found[key] = _clean(value[:MAX_FIELD_LENGTH])
    return found


def _clean(text: str) -> str:
    """Put a text on one line, and remove tokens."""
    return without_tokens(shown(text, MAX_MESSAGE_LENGTH))


def without_tokens(text: str) -> str:
    """The text with each token replaced by "[token]"."""
    return _TOKEN.sub("[token]", text)


class TextFormatter(RecordFormatter):
    """`LEVEL logger: what happened  key=value key=value`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a traceback below it if there is one."""
        fields = " ".join(f"{key}={value}" for key, value in _fields(record).items())
        line = f"{record.levelname} {record.name}: {_clean(record.getMessage())}"
        if fields:
            line += "  " + fields
        if record.exc_info:
            line += "\n" + _TOKEN.sub("[token]", printable(self.formatException(record.exc_info)))
        return line


class JsonFormatter(RecordFormatter):
    """One JSON object a line: time (RFC 3339, UTC), level, logger, message, the fields, and a traceback as text."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _clean(record.getMessage()),
            **_fields(record),
        }
        if record.exc_info:
            line["traceback"] = _TOKEN.sub("[token]", self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)
