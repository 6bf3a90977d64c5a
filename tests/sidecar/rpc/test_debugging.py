"""Reflection and channelz, over a real gRPC server in this process."""

from collections.abc import AsyncIterator

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from sidecar.rpc.debugging import add_debugging_services
from sidecar.rpc.reflection import V1, V1ALPHA

OURS = "handcounter.ratelimit.v1.RateLimitService"


@pytest.fixture
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a server with debugging services, which says that it has ours, too."""
    server = grpc.aio.server()
    add_debugging_services(server, [OURS])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as opened:
        yield opened
    await server.stop(None)


async def reflect(
    channel: grpc.aio.Channel, version: str, request: reflection_pb2.ServerReflectionRequest
) -> reflection_pb2.ServerReflectionResponse:
    """Returns the answer of a version of reflection."""
    call = channel.stream_stream(
        f"/{version}/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )(timeout=120)
    await call.write(request)
    answer = await call.read()
    await call.done_writing()
    assert isinstance(answer, reflection_pb2.ServerReflectionResponse)
    return answer


@pytest.mark.parametrize("version", [V1, V1ALPHA])
async def test_both_versions_list_all_services(channel: grpc.aio.Channel, version: str) -> None:
    """The server's services, channelz and both versions themselves are listed."""
    answer = await reflect(channel, version, reflection_pb2.ServerReflectionRequest(list_services=""))
    listed = {service.name for service in answer.list_services_response.service}
    assert listed == {OURS, "grpc.channelz.v1.Channelz", V1, V1ALPHA}


@pytest.mark.parametrize("version", [V1, V1ALPHA])
async def test_each_version_has_its_own_descriptor(channel: grpc.aio.Channel, version: str) -> None:
    """The file of a version is complete: its types are in its own package."""
    request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=version)
    answer = await reflect(channel, version, request)
    file = descriptor_pb2.FileDescriptorProto()
    file.ParseFromString(answer.file_descriptor_response.file_descriptor_proto[0])
    package = version.rpartition(".")[0]
    assert file.package == package
    (method,) = (method for service in file.service for method in service.method)
    types = [field.type_name for message in file.message_type for field in message.field if field.type_name]
    assert types
    assert {name.rpartition(".")[0] for name in (method.input_type, method.output_type, *types)} == {f".{package}"}


async def test_channelz_shows_the_server(channel: grpc.aio.Channel) -> None:
    """The counters of gRPC itself can be read."""
    stub = channelz_pb2_grpc.ChannelzStub(channel)
    assert (await stub.GetServers(channelz_pb2.GetServersRequest(), timeout=120)).server
