"""Servicers and stubs of jumpstarter_proto/driver/video/v1/video.proto, written by purerpc's plugin."""

import purerpc
import jumpstarter_proto.driver.video.v1.video_pb2 as jumpstarter_proto_dot_driver_dot_video_dot_v1_dot_video__pb2
import google.protobuf.empty_pb2 as google_dot_protobuf_dot_empty__pb2
import google.protobuf.struct_pb2 as google_dot_protobuf_dot_struct__pb2


class VideoInterfaceServicer(purerpc.Servicer):
    async def Connect(self, input_messages):
        raise NotImplementedError()

    async def Snapshot(self, input_message):
        raise NotImplementedError()

    async def State(self, input_message):
        raise NotImplementedError()

    async def StreamPath(self, input_message):
        raise NotImplementedError()

    @property
    def service(self) -> purerpc.Service:
        service_obj = purerpc.Service(
            "jumpstarter.driver.video.v1.VideoInterface"
        )
        service_obj.add_method(
            "Connect",
            self.Connect,
            purerpc.RPCSignature(
                purerpc.Cardinality.STREAM_STREAM,
                jumpstarter_proto_dot_driver_dot_video_dot_v1_dot_video__pb2.StreamData,
                jumpstarter_proto_dot_driver_dot_video_dot_v1_dot_video__pb2.StreamData,
            )
        )
        service_obj.add_method(
            "Snapshot",
            self.Snapshot,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_video_dot_v1_dot_video__pb2.SnapshotResponse,
            )
        )
        service_obj.add_method(
            "State",
            self.State,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_video_dot_v1_dot_video__pb2.VideoState,
            )
        )
        service_obj.add_method(
            "StreamPath",
            self.StreamPath,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_video_dot_v1_dot_video__pb2.StreamPathResponse,
            )
        )
        return service_obj


class VideoInterfaceStub:
    def __init__(self, channel):
        self._client = purerpc.Client(
            "jumpstarter.driver.video.v1.VideoInterface",
            channel
        )
        self.Connect = self._client.get_method_stub(
            "Connect",
            purerpc.RPCSignature(
                purerpc.Cardinality.STREAM_STREAM,
                jumpstarter_proto_dot_driver_dot_video_dot_v1_dot_video__pb2.StreamData,
                jumpstarter_proto_dot_driver_dot_video_dot_v1_dot_video__pb2.StreamData,
            )
        )
        self.Snapshot = self._client.get_method_stub(
            "Snapshot",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_video_dot_v1_dot_video__pb2.SnapshotResponse,
            )
        )
        self.State = self._client.get_method_stub(
            "State",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_video_dot_v1_dot_video__pb2.VideoState,
            )
        )
        self.StreamPath = self._client.get_method_stub(
            "StreamPath",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_video_dot_v1_dot_video__pb2.StreamPathResponse,
            )
        )
