"""Servicers and stubs of jumpstarter_proto/driver/power/v1/power.proto, written by purerpc's plugin."""

import purerpc
import jumpstarter_proto.driver.power.v1.power_pb2 as jumpstarter_proto_dot_driver_dot_power_dot_v1_dot_power__pb2
import google.protobuf.empty_pb2 as google_dot_protobuf_dot_empty__pb2


class PowerInterfaceServicer(purerpc.Servicer):
    async def On(self, input_message):
        raise NotImplementedError()

    async def Off(self, input_message):
        raise NotImplementedError()

    async def Cycle(self, input_message):
        raise NotImplementedError()

    async def Rescue(self, input_message):
        raise NotImplementedError()

    async def Read(self, input_message):
        raise NotImplementedError()

    async def Status(self, input_message):
        raise NotImplementedError()

    @property
    def service(self) -> purerpc.Service:
        service_obj = purerpc.Service(
            "jumpstarter.driver.power.v1.PowerInterface"
        )
        service_obj.add_method(
            "On",
            self.On,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        service_obj.add_method(
            "Off",
            self.Off,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        service_obj.add_method(
            "Cycle",
            self.Cycle,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_power_dot_v1_dot_power__pb2.CycleRequest,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        service_obj.add_method(
            "Rescue",
            self.Rescue,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        service_obj.add_method(
            "Read",
            self.Read,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_STREAM,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_power_dot_v1_dot_power__pb2.PowerReading,
            )
        )
        service_obj.add_method(
            "Status",
            self.Status,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_power_dot_v1_dot_power__pb2.StatusResponse,
            )
        )
        return service_obj


class PowerInterfaceStub:
    def __init__(self, channel):
        self._client = purerpc.Client(
            "jumpstarter.driver.power.v1.PowerInterface",
            channel
        )
        self.On = self._client.get_method_stub(
            "On",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        self.Off = self._client.get_method_stub(
            "Off",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        self.Cycle = self._client.get_method_stub(
            "Cycle",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_power_dot_v1_dot_power__pb2.CycleRequest,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        self.Rescue = self._client.get_method_stub(
            "Rescue",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        self.Read = self._client.get_method_stub(
            "Read",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_STREAM,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_power_dot_v1_dot_power__pb2.PowerReading,
            )
        )
        self.Status = self._client.get_method_stub(
            "Status",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_power_dot_v1_dot_power__pb2.StatusResponse,
            )
        )
