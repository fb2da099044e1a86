"""Files behind http(s) URLs: fetched and uploaded, with proxies, redirects and a bound on whom is connected to.

Exporter and client do it here, and nowhere else. Small JSON documents are `jumpstarter_proto.https`.
"""

from jumpstarter_proto.reach import EVERYWHERE, AddressRefused, Reach
from jumpstarter_proto.transfer.http import (
    MAX_REDIRECTS,
    TransferError,
    TransferLimits,
    TransferTimeout,
    get,
    put,
)
from jumpstarter_proto.transfer.request import TransferRequest

__all__ = [
    "EVERYWHERE",
    "MAX_REDIRECTS",
    "AddressRefused",
    "Reach",
    "TransferError",
    "TransferLimits",
    "TransferRequest",
    "TransferTimeout",
    "get",
    "put",
]
