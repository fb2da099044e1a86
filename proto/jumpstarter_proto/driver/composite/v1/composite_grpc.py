"""Servicers and stubs of jumpstarter_proto/driver/composite/v1/composite.proto, written by purerpc's plugin."""

import purerpc
import jumpstarter_proto.driver.composite.v1.composite_pb2 as jumpstarter_proto_dot_driver_dot_composite_dot_v1_dot_composite__pb2


class CompositeInterfaceServicer(purerpc.Servicer):
    @property
    def service(self) -> purerpc.Service:
        service_obj = purerpc.Service(
            "jumpstarter.driver.composite.v1.CompositeInterface"
        )
        return service_obj


class CompositeInterfaceStub:
    def __init__(self, channel):
        self._client = purerpc.Client(
            "jumpstarter.driver.composite.v1.CompositeInterface",
            channel
        )
