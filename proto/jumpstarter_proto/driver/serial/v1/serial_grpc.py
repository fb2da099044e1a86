"""Servicers and stubs of jumpstarter_proto/driver/serial/v1/serial.proto, written by purerpc's plugin."""

import purerpc
import jumpstarter_proto.driver.serial.v1.serial_pb2 as jumpstarter_proto_dot_driver_dot_serial_dot_v1_dot_serial__pb2
import google.protobuf.empty_pb2 as google_dot_protobuf_dot_empty__pb2
import google.protobuf.struct_pb2 as google_dot_protobuf_dot_struct__pb2


class SerialInterfaceServicer(purerpc.Servicer):
    async def Connect(self, input_messages):
        raise NotImplementedError()

    async def ConnectEarly(self, input_messages):
        raise NotImplementedError()

    async def Input(self, input_messages):
        raise NotImplementedError()

    async def Close(self, input_message):
        raise NotImplementedError()

    async def SetDtr(self, input_message):
        raise NotImplementedError()

    async def SetRts(self, input_message):
        raise NotImplementedError()

    async def Log(self, input_message):
        raise NotImplementedError()

    async def Mark(self, input_message):
        raise NotImplementedError()

    async def Clock(self, input_message):
        raise NotImplementedError()

    async def Position(self, input_message):
        raise NotImplementedError()

    async def WaitsFor(self, input_message):
        raise NotImplementedError()

    async def Watch(self, input_message):
        raise NotImplementedError()

    @property
    def service(self) -> purerpc.Service:
        service_obj = purerpc.Service(
            "jumpstarter.driver.serial.v1.SerialInterface"
        )
        service_obj.add_method(
            "Connect",
            self.Connect,
            purerpc.RPCSignature(
                purerpc.Cardinality.STREAM_STREAM,
                jumpstarter_proto_dot_driver_dot_serial_dot_v1_dot_serial__pb2.StreamData,
                jumpstarter_proto_dot_driver_dot_serial_dot_v1_dot_serial__pb2.StreamData,
            )
        )
        service_obj.add_method(
            "ConnectEarly",
            self.ConnectEarly,
            purerpc.RPCSignature(
                purerpc.Cardinality.STREAM_STREAM,
                jumpstarter_proto_dot_driver_dot_serial_dot_v1_dot_serial__pb2.StreamData,
                jumpstarter_proto_dot_driver_dot_serial_dot_v1_dot_serial__pb2.StreamData,
            )
        )
        service_obj.add_method(
            "Input",
            self.Input,
            purerpc.RPCSignature(
                purerpc.Cardinality.STREAM_STREAM,
                jumpstarter_proto_dot_driver_dot_serial_dot_v1_dot_serial__pb2.StreamData,
                jumpstarter_proto_dot_driver_dot_serial_dot_v1_dot_serial__pb2.StreamData,
            )
        )
        service_obj.add_method(
            "Close",
            self.Close,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        service_obj.add_method(
            "SetDtr",
            self.SetDtr,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_serial_dot_v1_dot_serial__pb2.SetDtrRequest,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        service_obj.add_method(
            "SetRts",
            self.SetRts,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_serial_dot_v1_dot_serial__pb2.SetRtsRequest,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        service_obj.add_method(
            "Log",
            self.Log,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_STREAM,
                jumpstarter_proto_dot_driver_dot_serial_dot_v1_dot_serial__pb2.LogRequest,
                jumpstarter_proto_dot_driver_dot_serial_dot_v1_dot_serial__pb2.LogResponse,
            )
        )
        service_obj.add_method(
            "Mark",
            self.Mark,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_serial_dot_v1_dot_serial__pb2.MarkRequest,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        service_obj.add_method(
            "Clock",
            self.Clock,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_serial_dot_v1_dot_serial__pb2.ClockResponse,
            )
        )
        service_obj.add_method(
            "Position",
            self.Position,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_serial_dot_v1_dot_serial__pb2.PositionResponse,
            )
        )
        service_obj.add_method(
            "WaitsFor",
            self.WaitsFor,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_serial_dot_v1_dot_serial__pb2.WaitsForResponse,
            )
        )
        service_obj.add_method(
            "Watch",
            self.Watch,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_STREAM,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_serial_dot_v1_dot_serial__pb2.WatchResponse,
            )
        )
        return service_obj


class SerialInterfaceStub:
    def __init__(self, channel):
        self._client = purerpc.Client(
            "jumpstarter.driver.serial.v1.SerialInterface",
            channel
        )
        self.Connect = self._client.get_method_stub(
            "Connect",
            purerpc.RPCSignature(
                purerpc.Cardinality.STREAM_STREAM,
                jumpstarter_proto_dot_driver_dot_serial_dot_v1_dot_serial__pb2.StreamData,
                jumpstarter_proto_dot_driver_dot_serial_dot_v1_dot_serial__pb2.StreamData,
            )
        )
        self.ConnectEarly = self._client.get_method_stub(
            "ConnectEarly",
            purerpc.RPCSignature(
                purerpc.Cardinality.STREAM_STREAM,
                jumpstarter_proto_dot_driver_dot_serial_dot_v1_dot_serial__pb2.StreamData,
                jumpstarter_proto_dot_driver_dot_serial_dot_v1_dot_serial__pb2.StreamData,
            )
        )
        self.Input = self._client.get_method_stub(
            "Input",
            purerpc.RPCSignature(
                purerpc.Cardinality.STREAM_STREAM,
                jumpstarter_proto_dot_driver_dot_serial_dot_v1_dot_serial__pb2.StreamData,
                jumpstarter_proto_dot_driver_dot_serial_dot_v1_dot_serial__pb2.StreamData,
            )
        )
        self.Close = self._client.get_method_stub(
            "Close",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        self.SetDtr = self._client.get_method_stub(
            "SetDtr",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_serial_dot_v1_dot_serial__pb2.SetDtrRequest,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        self.SetRts = self._client.get_method_stub(
            "SetRts",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_serial_dot_v1_dot_serial__pb2.SetRtsRequest,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        self.Log = self._client.get_method_stub(
            "Log",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_STREAM,
                jumpstarter_proto_dot_driver_dot_serial_dot_v1_dot_serial__pb2.LogRequest,
                jumpstarter_proto_dot_driver_dot_serial_dot_v1_dot_serial__pb2.LogResponse,
            )
        )
        self.Mark = self._client.get_method_stub(
            "Mark",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                jumpstarter_proto_dot_driver_dot_serial_dot_v1_dot_serial__pb2.MarkRequest,
                google_dot_protobuf_dot_empty__pb2.Empty,
            )
        )
        self.Clock = self._client.get_method_stub(
            "Clock",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_serial_dot_v1_dot_serial__pb2.ClockResponse,
            )
        )
        self.Position = self._client.get_method_stub(
            "Position",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_serial_dot_v1_dot_serial__pb2.PositionResponse,
            )
        )
        self.WaitsFor = self._client.get_method_stub(
            "WaitsFor",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_serial_dot_v1_dot_serial__pb2.WaitsForResponse,
            )
        )
        self.Watch = self._client.get_method_stub(
            "Watch",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_STREAM,
                google_dot_protobuf_dot_empty__pb2.Empty,
                jumpstarter_proto_dot_driver_dot_serial_dot_v1_dot_serial__pb2.WatchResponse,
            )
        )
