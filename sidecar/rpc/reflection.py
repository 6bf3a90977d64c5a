"""Server reflection, v1 and v1alpha.

grpcio-reflection serves only v1alpha, which grpcurl 1.8 asks for; newer clients ask for v1. The two differ only in the
name of their package, so one servicer answers both, and the file descriptor of v1 is a copy under the other name.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha._async import ReflectionServicer

V1ALPHA: Final = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"].full_name
V1: Final = "grpc.reflection.v1.ServerReflection"


def add_reflection(server: "grpc.aio.Server", service_names: Sequence[str]) -> None:
    """Adds both versions of reflection to a server that isn't started yet.

    Args:
        server: The server, guarded against malformed requests.
        service_names: Full names of the server's other services. Both versions list them and each other.
    """
    _add_v1_descriptor()
    servicer = ReflectionServicer([*service_names, V1ALPHA, V1])
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    handlers: dict[str, Any] = {"ServerReflectionInfo": handler}
    add: Callable[[str, dict[str, Any]], None] = server.add_registered_method_handlers
    add(V1, handlers)


def _add_v1_descriptor() -> None:
    file = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    file.name = "grpc/reflection/v1/reflection.proto"
    file.package = "grpc.reflection.v1"
    for message in file.message_type:
        for field in message.field:
            if field.type_name:
                field.type_name = _in_v1(field.type_name)
    for service in file.service:
        for method in service.method:
            method.input_type = _in_v1(method.input_type)
            method.output_type = _in_v1(method.output_type)
    descriptor_pool.Default().Add(file)


def _in_v1(type_name: str) -> str:
    return type_name.replace(".grpc.reflection.v1alpha.", ".grpc.reflection.v1.")
