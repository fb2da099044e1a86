"""Who gets which exporter, and when: decisions without I/O over the records of a lab."""

from jumpstarter_controller.scheduling.candidates import Refusal, choices, longest
from jumpstarter_controller.scheduling.presence import OFFLINE_SECONDS, Presence
from jumpstarter_controller.scheduling.scheduler import Place, Scheduler, online
from jumpstarter_controller.scheduling.times import TimesError, check_times

__all__ = [
    "OFFLINE_SECONDS",
    "Place",
    "Presence",
    "Refusal",
    "Scheduler",
    "TimesError",
    "check_times",
    "choices",
    "longest",
    "online",
]
