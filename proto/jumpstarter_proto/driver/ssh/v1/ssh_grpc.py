"""Servicers and stubs of jumpstarter_proto/driver/ssh/v1/ssh.proto, written by purerpc's plugin."""

import purerpc
import jumpstarter_proto.driver.ssh.v1.ssh_pb2 as jumpstarter_proto_dot_driver_dot_ssh_dot_v1_dot_ssh__pb2
import google.protobuf.empty_pb2 as google_dot_protobuf_dot_empty__pb2


class SshInterfaceServicer(purerpc.Servicer):
    async def GetDefaultUsername(self, input_message):
        raise NotImplementedError()

    async def GetSshCommand(self, input_message):
        raise NotImplementedError()

    async def GetSshIdentity(self, input_message):
        raise NotImplementedError()

    async def GetHostKeys(self, input_message):
        raise NotImplementedError()

    async def Agent(self, input_messages):
        raise NotImplementedError()

    @property
    def service(self) -> purerpc.Service:
        service_obj = purerpc.Service(
            "jumpstarter.driver.ssh.v1.SshInterface"
        )
        service_obj.add_method(
            "GetDefaultUsername",
            self.GetDefaultUsername,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_ssh_dot_v1_dot_ssh__pb2.GetDefaultUsernameResponse,
            )
        )
        service_obj.add_method(
            "GetSshCommand",
            self.GetSshCommand,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_ssh_dot_v1_dot_ssh__pb2.GetSshCommandResponse,
            )
        )
        service_obj.add_method(
            "GetSshIdentity",
            self.GetSshIdentity,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_ssh_dot_v1_dot_ssh__pb2.GetSshIdentityResponse,
            )
        )
        service_obj.add_method(
            "GetHostKeys",
            self.GetHostKeys,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_ssh_dot_v1_dot_ssh__pb2.GetHostKeysResponse,
            )
        )
        service_obj.add_method(
            "Agent",
            self.Agent,
            purerpc.RPCSignature(
                purerpc.Cardinality.STREAM_STREAM,
                jumpstarter_proto_dot_driver_dot_ssh_dot_v1_dot_ssh__pb2.StreamData,
                jumpstarter_proto_dot_driver_dot_ssh_dot_v1_dot_ssh__pb2.StreamData,
            )
        )
        return service_obj


class SshInterfaceStub:
    def __init__(self, channel):
        self._client = purerpc.Client(
            "jumpstarter.driver.ssh.v1.SshInterface",
            channel
        )
        self.GetDefaultUsername = self._client.get_method_stub(
            "GetDefaultUsername",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_ssh_dot_v1_dot_ssh__pb2.GetDefaultUsernameResponse,
            )
        )
        self.GetSshCommand = self._client.get_method_stub(
            "GetSshCommand",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_ssh_dot_v1_dot_ssh__pb2.GetSshCommandResponse,
            )
        )
        self.GetSshIdentity = self._client.get_method_stub(
            "GetSshIdentity",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_ssh_dot_v1_dot_ssh__pb2.GetSshIdentityResponse,
            )
        )
        self.GetHostKeys = self._client.get_method_stub(
            "GetHostKeys",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_ssh_dot_v1_dot_ssh__pb2.GetHostKeysResponse,
            )
        )
        self.Agent = self._client.get_method_stub(
            "Agent",
            purerpc.RPCSignature(
                purerpc.Cardinality.STREAM_STREAM,
                jumpstarter_proto_dot_driver_dot_ssh_dot_v1_dot_ssh__pb2.StreamData,
                jumpstarter_proto_dot_driver_dot_ssh_dot_v1_dot_ssh__pb2.StreamData,
            )
        )
