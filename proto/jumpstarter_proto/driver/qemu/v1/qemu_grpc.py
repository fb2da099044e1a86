"""Servicers and stubs of jumpstarter_proto/driver/qemu/v1/qemu.proto, written by purerpc's plugin."""

import purerpc
import jumpstarter_proto.driver.qemu.v1.qemu_pb2 as jumpstarter_proto_dot_driver_dot_qemu_dot_v1_dot_qemu__pb2
import google.protobuf.empty_pb2 as google_dot_protobuf_dot_empty__pb2


class QemuInterfaceServicer(purerpc.Servicer):
    async def GetHostname(self, input_message):
        raise NotImplementedError()

    async def GetUsername(self, input_message):
        raise NotImplementedError()

    async def GetPassword(self, input_message):
        raise NotImplementedError()

    async def SetDiskSize(self, input_message):
        raise NotImplementedError()

    async def SetMemorySize(self, input_message):
        raise NotImplementedError()

    async def Status(self, input_message):
        raise NotImplementedError()

    @property
    def service(self) -> purerpc.Service:
        service_obj = purerpc.Service(
            "jumpstarter.driver.qemu.v1.QemuInterface"
        )
        service_obj.add_method(
            "GetHostname",
            self.GetHostname,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_qemu_dot_v1_dot_qemu__pb2.GetHostnameResponse,
            )
        )
        service_obj.add_method(
            "GetUsername",
            self.GetUsername,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_qemu_dot_v1_dot_qemu__pb2.GetUsernameResponse,
            )
        )
        service_obj.add_method(
            "GetPassword",
            self.GetPassword,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_qemu_dot_v1_dot_qemu__pb2.GetPasswordResponse,
            )
        )
        service_obj.add_method(
            "SetDiskSize",
            self.SetDiskSize,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_qemu_dot_v1_dot_qemu__pb2.SetDiskSizeRequest,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        service_obj.add_method(
            "SetMemorySize",
            self.SetMemorySize,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_qemu_dot_v1_dot_qemu__pb2.SetMemorySizeRequest,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        service_obj.add_method(
            "Status",
            self.Status,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_qemu_dot_v1_dot_qemu__pb2.StatusResponse,
            )
        )
        return service_obj


class QemuInterfaceStub:
    def __init__(self, channel):
        self._client = purerpc.Client(
            "jumpstarter.driver.qemu.v1.QemuInterface",
            channel
        )
        self.GetHostname = self._client.get_method_stub(
            "GetHostname",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_qemu_dot_v1_dot_qemu__pb2.GetHostnameResponse,
            )
        )
        self.GetUsername = self._client.get_method_stub(
            "GetUsername",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_qemu_dot_v1_dot_qemu__pb2.GetUsernameResponse,
            )
        )
        self.GetPassword = self._client.get_method_stub(
            "GetPassword",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_qemu_dot_v1_dot_qemu__pb2.GetPasswordResponse,
            )
        )
        self.SetDiskSize = self._client.get_method_stub(
            "SetDiskSize",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_qemu_dot_v1_dot_qemu__pb2.SetDiskSizeRequest,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        self.SetMemorySize = self._client.get_method_stub(
            "SetMemorySize",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_qemu_dot_v1_dot_qemu__pb2.SetMemorySizeRequest,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        self.Status = self._client.get_method_stub(
            "Status",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_qemu_dot_v1_dot_qemu__pb2.StatusResponse,
            )
        )
