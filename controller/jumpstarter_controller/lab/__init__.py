"""What a lab consists of: its records, and the tables that hold them."""

from jumpstarter_controller.lab.records import (
    Client,
    Condition,
    ConditionType,
    Device,
    Exporter,
    ExporterDevices,
    ExporterStatus,
    Key,
    Lease,
    PairingCode,
    Policy,
    Record,
    Rule,
)
from jumpstarter_controller.lab.tables import Lab, View

__all__ = [
    "Client",
    "Condition",
    "ConditionType",
    "Device",
    "Exporter",
    "ExporterDevices",
    "ExporterStatus",
    "Key",
    "Lab",
    "Lease",
    "PairingCode",
    "Policy",
    "Record",
    "Rule",
    "View",
]
