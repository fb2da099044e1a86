"""Servicers and stubs of jumpstarter_proto/driver/gpio_input/v1/gpio_input.proto, written by purerpc's plugin."""

import purerpc
import jumpstarter_proto.driver.gpio_input.v1.gpio_input_pb2 as jumpstarter_proto_dot_driver_dot_gpio_input_dot_v1_dot_gpio_input__pb2
import google.protobuf.empty_pb2 as google_dot_protobuf_dot_empty__pb2


class GpioInputInterfaceServicer(purerpc.Servicer):
    async def ReadPin(self, input_message):
        raise NotImplementedError()

    async def WaitForActive(self, input_message):
        raise NotImplementedError()

    async def WaitForInactive(self, input_message):
        raise NotImplementedError()

    async def WaitForEdge(self, input_message):
        raise NotImplementedError()

    @property
    def service(self) -> purerpc.Service:
        service_obj = purerpc.Service(
            "jumpstarter.driver.gpio_input.v1.GpioInputInterface"
        )
        service_obj.add_method(
            "ReadPin",
            self.ReadPin,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_gpio_input_dot_v1_dot_gpio_input__pb2.ReadPinResponse,
            )
        )
        service_obj.add_method(
            "WaitForActive",
            self.WaitForActive,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_gpio_input_dot_v1_dot_gpio_input__pb2.WaitForActiveRequest,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        service_obj.add_method(
            "WaitForInactive",
            self.WaitForInactive,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_gpio_input_dot_v1_dot_gpio_input__pb2.WaitForInactiveRequest,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        service_obj.add_method(
            "WaitForEdge",
            self.WaitForEdge,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_gpio_input_dot_v1_dot_gpio_input__pb2.WaitForEdgeRequest,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        return service_obj


class GpioInputInterfaceStub:
    def __init__(self, channel):
        self._client = purerpc.Client(
            "jumpstarter.driver.gpio_input.v1.GpioInputInterface",
            channel
        )
        self.ReadPin = self._client.get_method_stub(
            "ReadPin",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_gpio_input_dot_v1_dot_gpio_input__pb2.ReadPinResponse,
            )
        )
        self.WaitForActive = self._client.get_method_stub(
            "WaitForActive",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_gpio_input_dot_v1_dot_gpio_input__pb2.WaitForActiveRequest,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        self.WaitForInactive = self._client.get_method_stub(
            "WaitForInactive",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_gpio_input_dot_v1_dot_gpio_input__pb2.WaitForInactiveRequest,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        self.WaitForEdge = self._client.get_method_stub(
            "WaitForEdge",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_gpio_input_dot_v1_dot_gpio_input__pb2.WaitForEdgeRequest,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
