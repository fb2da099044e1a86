"""The records of a lab, and the tables that hold them."""

from jumpstarter_controller.lab.records import (
    NOT_ANSWERING,
    Client,
    ConditionType,
    Drain,
    Exporter,
    ExporterDevices,
    ExporterStatus,
    Host,
    Key,
    Lease,
    LeaseCondition,
    PairingCode,
    Policy,
    Record,
    ReportedDevice,
    Rule,
    UnavailableReason,
)
from jumpstarter_controller.lab.tables import Draft, LabState

__all__ = [
    "NOT_ANSWERING",
    "Client",
    "ConditionType",
    "Draft",
    "Drain",
    "Exporter",
    "ExporterDevices",
    "ExporterStatus",
    "Host",
    "Key",
    "LabState",
    "Lease",
    "LeaseCondition",
    "PairingCode",
    "Policy",
    "Record",
    "ReportedDevice",
    "Rule",
    "UnavailableReason",
]
