"""Servicers and stubs of jumpstarter_proto/driver/network/v1/network.proto, written by purerpc's plugin."""

import purerpc
import jumpstarter_proto.driver.network.v1.network_pb2 as jumpstarter_proto_dot_driver_dot_network_dot_v1_dot_network__pb2
import google.protobuf.empty_pb2 as google_dot_protobuf_dot_empty__pb2


class NetworkInterfaceServicer(purerpc.Servicer):
    async def Connect(self, input_messages):
        raise NotImplementedError()

    async def Address(self, input_message):
        raise NotImplementedError()

    @property
    def service(self) -> purerpc.Service:
        service_obj = purerpc.Service(
            "jumpstarter.driver.network.v1.NetworkInterface"
        )
        service_obj.add_method(
            "Connect",
            self.Connect,
            purerpc.RPCSignature(
                purerpc.Cardinality.STREAM_STREAM,
                jumpstarter_proto_dot_driver_dot_network_dot_v1_dot_network__pb2.StreamData,
                jumpstarter_proto_dot_driver_dot_network_dot_v1_dot_network__pb2.StreamData,
            )
        )
        service_obj.add_method(
            "Address",
            self.Address,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_network_dot_v1_dot_network__pb2.AddressResponse,
            )
        )
        return service_obj


class NetworkInterfaceStub:
    def __init__(self, channel):
        self._client = purerpc.Client(
            "jumpstarter.driver.network.v1.NetworkInterface",
            channel
        )
        self.Connect = self._client.get_method_stub(
            "Connect",
            purerpc.RPCSignature(
                purerpc.Cardinality.STREAM_STREAM,
                jumpstarter_proto_dot_driver_dot_network_dot_v1_dot_network__pb2.StreamData,
                jumpstarter_proto_dot_driver_dot_network_dot_v1_dot_network__pb2.StreamData,
            )
        )
        self.Address = self._client.get_method_stub(
            "Address",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_network_dot_v1_dot_network__pb2.AddressResponse,
            )
        )
