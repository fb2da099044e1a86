"""The scheduler: which lease gets which exporter, and when. Decisions over the records of a lab, without I/O."""

from jumpstarter_controller.scheduling.candidates import LeaseRefusal, choices, longest
from jumpstarter_controller.scheduling.clock_steps import FutureTimestamps, follow_clock
from jumpstarter_controller.scheduling.offers import ANSWER_SECONDS, accept, withdraw
from jumpstarter_controller.scheduling.presence import OFFLINE_SECONDS, ExporterPresence
from jumpstarter_controller.scheduling.scheduler import READY_STATUSES, QueuePosition, Scheduler, online
from jumpstarter_controller.scheduling.store_evidence import POLICY_SECONDS, StoreEvidence
from jumpstarter_controller.scheduling.times import TimesError, check_times
from jumpstarter_controller.scheduling.waiters import PICKUP_SECONDS, WAITER_SECONDS, WATCHED_SECONDS, Waiters

__all__ = [
    "ANSWER_SECONDS",
    "OFFLINE_SECONDS",
    "PICKUP_SECONDS",
    "POLICY_SECONDS",
    "READY_STATUSES",
    "WAITER_SECONDS",
    "WATCHED_SECONDS",
    "ExporterPresence",
    "FutureTimestamps",
    "LeaseRefusal",
    "QueuePosition",
    "Scheduler",
    "StoreEvidence",
    "TimesError",
    "Waiters",
    "accept",
    "check_times",
    "choices",
    "follow_clock",
    "longest",
    "online",
    "withdraw",
]
