"""Changes of a lab: each runs over a draft, and becomes visible when it is in the store."""

from jumpstarter_controller.reconciler.reconciler import Reconciler

__all__ = ["Reconciler"]
