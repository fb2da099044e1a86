"""Servicers and stubs of jumpstarter_proto/driver/storage_mux/v1/storage_mux.proto, written by purerpc's plugin."""

import purerpc
import jumpstarter_proto.driver.storage_mux.v1.storage_mux_pb2 as jumpstarter_proto_dot_driver_dot_storage_mux_dot_v1_dot_storage_mux__pb2
import google.protobuf.empty_pb2 as google_dot_protobuf_dot_empty__pb2
import google.protobuf.struct_pb2 as google_dot_protobuf_dot_struct__pb2
import jumpstarter_proto.annotations.annotations_pb2 as jumpstarter_proto_dot_annotations_dot_annotations__pb2
import jumpstarter_proto.driver.storage.v1.storage_pb2 as jumpstarter_proto_dot_driver_dot_storage_dot_v1_dot_storage__pb2


class StorageMuxInterfaceServicer(purerpc.Servicer):
    async def Host(self, input_message):
        raise NotImplementedError()

    async def Dut(self, input_message):
        raise NotImplementedError()

    async def Off(self, input_message):
        raise NotImplementedError()

    async def Write(self, input_message):
        raise NotImplementedError()

    async def Read(self, input_message):
        raise NotImplementedError()

    async def Status(self, input_message):
        raise NotImplementedError()

    async def Watch(self, input_message):
        raise NotImplementedError()

    @property
    def service(self) -> purerpc.Service:
        service_obj = purerpc.Service(
            "jumpstarter.driver.storage_mux.v1.StorageMuxInterface"
        )
        service_obj.add_method(
            "Host",
            self.Host,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        service_obj.add_method(
            "Dut",
            self.Dut,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_storage_mux_dot_v1_dot_storage_mux__pb2.DutRequest,
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
            "Write",
            self.Write,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_storage_mux_dot_v1_dot_storage_mux__pb2.WriteRequest,
                jumpstarter_proto_dot_driver_dot_storage_mux_dot_v1_dot_storage_mux__pb2.WriteResponse,
            )
        )
        service_obj.add_method(
            "Read",
            self.Read,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_storage_mux_dot_v1_dot_storage_mux__pb2.ReadRequest,
                jumpstarter_proto_dot_driver_dot_storage_mux_dot_v1_dot_storage_mux__pb2.ReadResponse,
            )
        )
        service_obj.add_method(
            "Status",
            self.Status,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_storage_mux_dot_v1_dot_storage_mux__pb2.StatusResponse,
            )
        )
        service_obj.add_method(
            "Watch",
            self.Watch,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_STREAM,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_storage_mux_dot_v1_dot_storage_mux__pb2.WatchResponse,
            )
        )
        return service_obj


class StorageMuxInterfaceStub:
    def __init__(self, channel):
        self._client = purerpc.Client(
            "jumpstarter.driver.storage_mux.v1.StorageMuxInterface",
            channel
        )
        self.Host = self._client.get_method_stub(
            "Host",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        self.Dut = self._client.get_method_stub(
            "Dut",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_storage_mux_dot_v1_dot_storage_mux__pb2.DutRequest,
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
        self.Write = self._client.get_method_stub(
            "Write",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_storage_mux_dot_v1_dot_storage_mux__pb2.WriteRequest,
                jumpstarter_proto_dot_driver_dot_storage_mux_dot_v1_dot_storage_mux__pb2.WriteResponse,
            )
        )
        self.Read = self._client.get_method_stub(
            "Read",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_storage_mux_dot_v1_dot_storage_mux__pb2.ReadRequest,
                jumpstarter_proto_dot_driver_dot_storage_mux_dot_v1_dot_storage_mux__pb2.ReadResponse,
            )
        )
        self.Status = self._client.get_method_stub(
            "Status",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_storage_mux_dot_v1_dot_storage_mux__pb2.StatusResponse,
            )
        )
        self.Watch = self._client.get_method_stub(
            "Watch",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_STREAM,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_storage_mux_dot_v1_dot_storage_mux__pb2.WatchResponse,
            )
        )
