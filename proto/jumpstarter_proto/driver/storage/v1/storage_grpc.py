"""Servicers and stubs of jumpstarter_proto/driver/storage/v1/storage.proto, written by purerpc's plugin."""

import purerpc
import jumpstarter_proto.driver.storage.v1.storage_pb2 as jumpstarter_proto_dot_driver_dot_storage_dot_v1_dot_storage__pb2
import google.protobuf.struct_pb2 as google_dot_protobuf_dot_struct__pb2
import jumpstarter_proto.annotations.annotations_pb2 as jumpstarter_proto_dot_annotations_dot_annotations__pb2


class StorageInterfaceServicer(purerpc.Servicer):
    async def Flash(self, input_message):
        raise NotImplementedError()

    async def Dump(self, input_message):
        raise NotImplementedError()

    @property
    def service(self) -> purerpc.Service:
        service_obj = purerpc.Service(
            "jumpstarter.driver.storage.v1.StorageInterface"
        )
        service_obj.add_method(
            "Flash",
            self.Flash,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_storage_dot_v1_dot_storage__pb2.FlashRequest,
                jumpstarter_proto_dot_driver_dot_storage_dot_v1_dot_storage__pb2.FlashResponse,
            )
        )
        service_obj.add_method(
            "Dump",
            self.Dump,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_storage_dot_v1_dot_storage__pb2.DumpRequest,
                jumpstarter_proto_dot_driver_dot_storage_dot_v1_dot_storage__pb2.DumpResponse,
            )
        )
        return service_obj


class StorageInterfaceStub:
    def __init__(self, channel):
        self._client = purerpc.Client(
            "jumpstarter.driver.storage.v1.StorageInterface",
            channel
        )
        self.Flash = self._client.get_method_stub(
            "Flash",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_storage_dot_v1_dot_storage__pb2.FlashRequest,
                jumpstarter_proto_dot_driver_dot_storage_dot_v1_dot_storage__pb2.FlashResponse,
            )
        )
        self.Dump = self._client.get_method_stub(
            "Dump",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_storage_dot_v1_dot_storage__pb2.DumpRequest,
                jumpstarter_proto_dot_driver_dot_storage_dot_v1_dot_storage__pb2.DumpResponse,
            )
        )
