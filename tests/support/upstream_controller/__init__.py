"""What stands in for the controller and router of Jumpstarter 0.9.0, which is written in Go and needs Kubernetes.

It keeps to what is known of that one's behaviour, not to what ours does better: no queue, leases that are looked at
again after a second, statuses that decide who is leased and who may dial. grpcio is its server. It runs in the test's
process, so that a test sees its objects and can hold up a report.
"""

from tests.support.upstream_controller.controller import UpstreamController

__all__ = ["UpstreamController"]
