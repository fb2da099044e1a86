"""Servicers and stubs of jumpstarter_proto/driver/file_folder/v1/file_folder.proto, written by purerpc's plugin."""

import purerpc
import jumpstarter_proto.driver.file_folder.v1.file_folder_pb2 as jumpstarter_proto_dot_driver_dot_file_folder_dot_v1_dot_file_folder__pb2
import google.protobuf.empty_pb2 as google_dot_protobuf_dot_empty__pb2
import google.protobuf.struct_pb2 as google_dot_protobuf_dot_struct__pb2
import jumpstarter_proto.annotations.annotations_pb2 as jumpstarter_proto_dot_annotations_dot_annotations__pb2


class FileFolderInterfaceServicer(purerpc.Servicer):
    async def Open(self, input_message):
        raise NotImplementedError()

    async def FileWrite(self, input_message):
        raise NotImplementedError()

    async def FileRead(self, input_message):
        raise NotImplementedError()

    async def FileClose(self, input_message):
        raise NotImplementedError()

    async def Stat(self, input_message):
        raise NotImplementedError()

    async def Hash(self, input_message):
        raise NotImplementedError()

    async def Exists(self, input_message):
        raise NotImplementedError()

    async def List(self, input_message):
        raise NotImplementedError()

    async def CreateDir(self, input_message):
        raise NotImplementedError()

    async def Rename(self, input_message):
        raise NotImplementedError()

    async def Delete(self, input_message):
        raise NotImplementedError()

    async def RemoveAll(self, input_message):
        raise NotImplementedError()

    @property
    def service(self) -> purerpc.Service:
        service_obj = purerpc.Service(
            "jumpstarter.driver.file_folder.v1.FileFolderInterface"
        )
        service_obj.add_method(
            "Open",
            self.Open,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_file_folder_dot_v1_dot_file_folder__pb2.OpenRequest,
                jumpstarter_proto_dot_driver_dot_file_folder_dot_v1_dot_file_folder__pb2.OpenResponse,
            )
        )
        service_obj.add_method(
            "FileWrite",
            self.FileWrite,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_file_folder_dot_v1_dot_file_folder__pb2.FileWriteRequest,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        service_obj.add_method(
            "FileRead",
            self.FileRead,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_file_folder_dot_v1_dot_file_folder__pb2.FileReadRequest,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        service_obj.add_method(
            "FileClose",
            self.FileClose,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_file_folder_dot_v1_dot_file_folder__pb2.FileCloseRequest,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        service_obj.add_method(
            "Stat",
            self.Stat,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_file_folder_dot_v1_dot_file_folder__pb2.StatRequest,
                jumpstarter_proto_dot_driver_dot_file_folder_dot_v1_dot_file_folder__pb2.StatResponse,
            )
        )
        service_obj.add_method(
            "Hash",
            self.Hash,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_file_folder_dot_v1_dot_file_folder__pb2.HashRequest,
                jumpstarter_proto_dot_driver_dot_file_folder_dot_v1_dot_file_folder__pb2.HashResponse,
            )
        )
        service_obj.add_method(
            "Exists",
            self.Exists,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_file_folder_dot_v1_dot_file_folder__pb2.ExistsRequest,
                jumpstarter_proto_dot_driver_dot_file_folder_dot_v1_dot_file_folder__pb2.ExistsResponse,
            )
        )
        service_obj.add_method(
            "List",
            self.List,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_STREAM,
                jumpstarter_proto_dot_driver_dot_file_folder_dot_v1_dot_file_folder__pb2.ListRequest,
                jumpstarter_proto_dot_driver_dot_file_folder_dot_v1_dot_file_folder__pb2.ListResponse,
            )
        )
        service_obj.add_method(
            "CreateDir",
            self.CreateDir,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_file_folder_dot_v1_dot_file_folder__pb2.CreateDirRequest,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        service_obj.add_method(
            "Rename",
            self.Rename,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_file_folder_dot_v1_dot_file_folder__pb2.RenameRequest,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        service_obj.add_method(
            "Delete",
            self.Delete,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_file_folder_dot_v1_dot_file_folder__pb2.DeleteRequest,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        service_obj.add_method(
            "RemoveAll",
            self.RemoveAll,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_file_folder_dot_v1_dot_file_folder__pb2.RemoveAllRequest,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        return service_obj


class FileFolderInterfaceStub:
    def __init__(self, channel):
        self._client = purerpc.Client(
            "jumpstarter.driver.file_folder.v1.FileFolderInterface",
            channel
        )
        self.Open = self._client.get_method_stub(
            "Open",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_file_folder_dot_v1_dot_file_folder__pb2.OpenRequest,
                jumpstarter_proto_dot_driver_dot_file_folder_dot_v1_dot_file_folder__pb2.OpenResponse,
            )
        )
        self.FileWrite = self._client.get_method_stub(
            "FileWrite",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_file_folder_dot_v1_dot_file_folder__pb2.FileWriteRequest,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        self.FileRead = self._client.get_method_stub(
            "FileRead",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_file_folder_dot_v1_dot_file_folder__pb2.FileReadRequest,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        self.FileClose = self._client.get_method_stub(
            "FileClose",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_file_folder_dot_v1_dot_file_folder__pb2.FileCloseRequest,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        self.Stat = self._client.get_method_stub(
            "Stat",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_file_folder_dot_v1_dot_file_folder__pb2.StatRequest,
                jumpstarter_proto_dot_driver_dot_file_folder_dot_v1_dot_file_folder__pb2.StatResponse,
            )
        )
        self.Hash = self._client.get_method_stub(
            "Hash",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_file_folder_dot_v1_dot_file_folder__pb2.HashRequest,
                jumpstarter_proto_dot_driver_dot_file_folder_dot_v1_dot_file_folder__pb2.HashResponse,
            )
        )
        self.Exists = self._client.get_method_stub(
            "Exists",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_file_folder_dot_v1_dot_file_folder__pb2.ExistsRequest,
                jumpstarter_proto_dot_driver_dot_file_folder_dot_v1_dot_file_folder__pb2.ExistsResponse,
            )
        )
        self.List = self._client.get_method_stub(
            "List",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_STREAM,
                jumpstarter_proto_dot_driver_dot_file_folder_dot_v1_dot_file_folder__pb2.ListRequest,
                jumpstarter_proto_dot_driver_dot_file_folder_dot_v1_dot_file_folder__pb2.ListResponse,
            )
        )
        self.CreateDir = self._client.get_method_stub(
            "CreateDir",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_file_folder_dot_v1_dot_file_folder__pb2.CreateDirRequest,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        self.Rename = self._client.get_method_stub(
            "Rename",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_file_folder_dot_v1_dot_file_folder__pb2.RenameRequest,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        self.Delete = self._client.get_method_stub(
            "Delete",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_file_folder_dot_v1_dot_file_folder__pb2.DeleteRequest,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        self.RemoveAll = self._client.get_method_stub(
            "RemoveAll",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_file_folder_dot_v1_dot_file_folder__pb2.RemoveAllRequest,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
