"""What a lab consists of: its records, and the tables that hold them."""

from jumpstarter_controller.lab.records import (
    NOT_ANSWERING,
    Client,
    Condition,
    ConditionType,
    Device,
    Drain,
    Exporter,
    ExporterDevices,
    ExporterStatus,
    Host,
    Key,
    Lease,
    PairingCode,
    Policy,
    Reason,
    Record,
    Rule,
)
from jumpstarter_controller.lab.tables import Draft, LabState

__all__ = [
    "NOT_ANSWERING",
    "Client",
    "Condition",
    "ConditionType",
    "Device",
    "Draft",
    "Drain",
    "Exporter",
    "ExporterDevices",
    "ExporterStatus",
    "Host",
    "Key",
    "LabState",
    "Lease",
    "PairingCode",
    "Policy",
    "Reason",
    "Record",
    "Rule",
]
