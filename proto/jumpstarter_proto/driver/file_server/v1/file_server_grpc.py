"""Servicers and stubs of jumpstarter_proto/driver/file_server/v1/file_server.proto, written by purerpc's plugin."""

import purerpc
import jumpstarter_proto.driver.file_server.v1.file_server_pb2 as jumpstarter_proto_dot_driver_dot_file_server_dot_v1_dot_file_server__pb2
import google.protobuf.empty_pb2 as google_dot_protobuf_dot_empty__pb2


class FileServerInterfaceServicer(purerpc.Servicer):
    async def Start(self, input_message):
        raise NotImplementedError()

    async def Stop(self, input_message):
        raise NotImplementedError()

    async def GetHost(self, input_message):
        raise NotImplementedError()

    async def GetPort(self, input_message):
        raise NotImplementedError()

    async def GetUrl(self, input_message):
        raise NotImplementedError()

    @property
    def service(self) -> purerpc.Service:
        service_obj = purerpc.Service(
            "jumpstarter.driver.file_server.v1.FileServerInterface"
        )
        service_obj.add_method(
            "Start",
            self.Start,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        service_obj.add_method(
            "Stop",
            self.Stop,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        service_obj.add_method(
            "GetHost",
            self.GetHost,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_file_server_dot_v1_dot_file_server__pb2.GetHostResponse,
            )
        )
        service_obj.add_method(
            "GetPort",
            self.GetPort,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_file_server_dot_v1_dot_file_server__pb2.GetPortResponse,
            )
        )
        service_obj.add_method(
            "GetUrl",
            self.GetUrl,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_file_server_dot_v1_dot_file_server__pb2.GetUrlResponse,
            )
        )
        return service_obj


class FileServerInterfaceStub:
    def __init__(self, channel):
        self._client = purerpc.Client(
            "jumpstarter.driver.file_server.v1.FileServerInterface",
            channel
        )
        self.Start = self._client.get_method_stub(
            "Start",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        self.Stop = self._client.get_method_stub(
            "Stop",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        self.GetHost = self._client.get_method_stub(
            "GetHost",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_file_server_dot_v1_dot_file_server__pb2.GetHostResponse,
            )
        )
        self.GetPort = self._client.get_method_stub(
            "GetPort",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_file_server_dot_v1_dot_file_server__pb2.GetPortResponse,
            )
        )
        self.GetUrl = self._client.get_method_stub(
            "GetUrl",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_file_server_dot_v1_dot_file_server__pb2.GetUrlResponse,
            )
        )
