"""Servicers and stubs of jumpstarter_proto/driver/gpio_output/v1/gpio_output.proto, written by purerpc's plugin."""

import purerpc
import jumpstarter_proto.driver.gpio_output.v1.gpio_output_pb2 as jumpstarter_proto_dot_driver_dot_gpio_output_dot_v1_dot_gpio_output__pb2
import google.protobuf.empty_pb2 as google_dot_protobuf_dot_empty__pb2


class GpioOutputInterfaceServicer(purerpc.Servicer):
    async def On(self, input_message):
        raise NotImplementedError()

    async def Off(self, input_message):
        raise NotImplementedError()

    async def ReadPin(self, input_message):
        raise NotImplementedError()

    @property
    def service(self) -> purerpc.Service:
        service_obj = purerpc.Service(
            "jumpstarter.driver.gpio_output.v1.GpioOutputInterface"
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
            "ReadPin",
            self.ReadPin,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_gpio_output_dot_v1_dot_gpio_output__pb2.ReadPinResponse,
            )
        )
        return service_obj


class GpioOutputInterfaceStub:
    def __init__(self, channel):
        self._client = purerpc.Client(
            "jumpstarter.driver.gpio_output.v1.GpioOutputInterface",
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
        self.ReadPin = self._client.get_method_stub(
            "ReadPin",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_gpio_output_dot_v1_dot_gpio_output__pb2.ReadPinResponse,
            )
        )
