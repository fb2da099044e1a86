"""Files behind http(s) URLs: fetched and uploaded, with proxies, redirects and a bound on whom is connected to.

Exporter and client do it here, and nowhere else. Small JSON documents are `jumpstarter_proto.https`.
"""

from jumpstarter_proto.reach import EVERYWHERE, AddressRefused, Reach
from jumpstarter_proto.transfer.http import REDIRECTS, Limits, TransferError, TransferTimeout, get, put
from jumpstarter_proto.transfer.request import Request

__all__ = [
    "EVERYWHERE",
    "REDIRECTS",
    "AddressRefused",
    "Limits",
    "Reach",
    "Request",
    "TransferError",
    "TransferTimeout",
    "get",
    "put",
]
