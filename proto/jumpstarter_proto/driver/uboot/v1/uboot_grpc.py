"""Servicers and stubs of jumpstarter_proto/driver/uboot/v1/uboot.proto, written by purerpc's plugin."""

import purerpc
import jumpstarter_proto.driver.uboot.v1.uboot_pb2 as jumpstarter_proto_dot_driver_dot_uboot_dot_v1_dot_uboot__pb2
import google.protobuf.empty_pb2 as google_dot_protobuf_dot_empty__pb2


class UbootInterfaceServicer(purerpc.Servicer):
    async def GetPrompt(self, input_message):
        raise NotImplementedError()

    @property
    def service(self) -> purerpc.Service:
        service_obj = purerpc.Service(
            "jumpstarter.driver.uboot.v1.UbootInterface"
        )
        service_obj.add_method(
            "GetPrompt",
            self.GetPrompt,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_uboot_dot_v1_dot_uboot__pb2.GetPromptResponse,
            )
        )
        return service_obj


class UbootInterfaceStub:
    def __init__(self, channel):
        self._client = purerpc.Client(
            "jumpstarter.driver.uboot.v1.UbootInterface",
            channel
        )
        self.GetPrompt = self._client.get_method_stub(
            "GetPrompt",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_uboot_dot_v1_dot_uboot__pb2.GetPromptResponse,
            )
        )
