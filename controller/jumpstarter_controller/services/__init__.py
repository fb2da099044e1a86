"""The controller's gRPC services."""

from jumpstarter_controller.services.auth import CallAuthenticator
from jumpstarter_controller.services.board_service import BoardService
from jumpstarter_controller.services.call_reports import CallReports
from jumpstarter_controller.services.client_service import ClientService
from jumpstarter_controller.services.controller_service import ControllerService
from jumpstarter_controller.services.dial_queues import DialQueues
from jumpstarter_controller.services.exporter_service import ExporterService
from jumpstarter_controller.services.exporter_streams import ExporterStreams
from jumpstarter_controller.services.health_reports import HealthReports
from jumpstarter_controller.services.lab_service import LabService
from jumpstarter_controller.services.rendezvous import Rendezvous
from jumpstarter_controller.services.replica_service import ReplicaService
from jumpstarter_controller.services.routers import Router, Routers

__all__ = [
    "BoardService",
    "CallAuthenticator",
    "CallReports",
    "ClientService",
    "ControllerService",
    "DialQueues",
    "ExporterService",
    "ExporterStreams",
    "HealthReports",
    "LabService",
    "Rendezvous",
    "ReplicaService",
    "Router",
    "Routers",
]
