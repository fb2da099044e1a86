"""Who gets which exporter, and when: decisions without I/O over the records of a lab."""

from jumpstarter_controller.scheduling.candidates import Refusal, choices, longest
from jumpstarter_controller.scheduling.clock_steps import FutureTimestamps, follow_clock
from jumpstarter_controller.scheduling.evidence import POLICY_SECONDS, Evidence
from jumpstarter_controller.scheduling.offers import ANSWER_SECONDS, accept, withdraw
from jumpstarter_controller.scheduling.presence import OFFLINE_SECONDS, Presence
from jumpstarter_controller.scheduling.scheduler import READY_STATUSES, Place, Scheduler, online
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
    "Evidence",
    "FutureTimestamps",
    "Place",
    "Presence",
    "Refusal",
    "Scheduler",
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
