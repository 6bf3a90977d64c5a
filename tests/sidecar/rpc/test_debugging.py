"""Reflection and channelz, over a real gRPC server in this process."""

import contextlib
from collections.abc import AsyncIterator

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from sidecar.rpc.debugging import CHANNELZ, REFLECTION, add_debugging_services
from sidecar.rpc.reflection import V1, V1ALPHA
from sidecar.rpc.request_guard import refusing_malformed

OURS = "handcounter.ratelimit.v1.RateLimitService"


@pytest.fixture
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a server with debugging services, which says that it has ours, too."""
    server = grpc.aio.server()
    add_debugging_services(refusing_malformed(server, lambda _method: None, 100), [OURS])
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


def test_their_names_are_those_of_their_descriptors() -> None:
    """They are written out, because the descriptors are imported later."""
    assert channelz_pb2.DESCRIPTOR.services_by_name["Channelz"].full_name == CHANNELZ
    assert {V1, V1ALPHA} == {*REFLECTION}


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


CHANNELZ_METHODS = [
    "GetTopChannels",
    "GetServers",
    "GetServer",
    "GetServerSockets",
    "GetChannel",
    "GetSubchannel",
    "GetSocket",
]
NONSENSE = [
    b"",
    b"\xff\xff",
    b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x08\x01\x10\x01\x18\x01",
    b"x" * 100_000,
]
"""Nothing, no message, the id -1, the id 1, and too much."""


@pytest.mark.parametrize("request_bytes", NONSENSE, ids=["empty", "no message", "negative", "one", "large"])
async def test_nonsense_isnt_a_fault_of_the_server(
    channel: grpc.aio.Channel, request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Each method says what is wrong with the request, and nothing is logged."""
    for method in CHANNELZ_METHODS:
        call = channel.unary_unary(f"/grpc.channelz.v1.Channelz/{method}")(request_bytes, timeout=120)
        assert await call.code() not in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNIMPLEMENTED), method
    for version in (V1, V1ALPHA):
        stream = channel.stream_stream(f"/{version}/ServerReflectionInfo")(timeout=120)
        await stream.write(request_bytes)
        await stream.done_writing()
        with contextlib.suppress(grpc.aio.AioRpcError):
            async for _ in stream:
                pass
        assert await stream.code() not in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNIMPLEMENTED)
    assert caplog.records == []


REFLECTED = [
    reflection_pb2.ServerReflectionRequest(file_by_filename="\0"),
    reflection_pb2.ServerReflectionRequest(file_containing_symbol=""),
    reflection_pb2.ServerReflectionRequest(file_containing_symbol="..."),
    reflection_pb2.ServerReflectionRequest(file_containing_extension={"containing_type": OURS, "extension_number": -1}),
    reflection_pb2.ServerReflectionRequest(
        file_containing_extension={"containing_type": "google.protobuf.FieldOptions", "extension_number": 2**31 - 1}
    ),
    reflection_pb2.ServerReflectionRequest(all_extension_numbers_of_type="x" * 1000),
]


@pytest.mark.parametrize("request_message", REFLECTED)
async def test_unknown_names_are_answered(
    channel: grpc.aio.Channel,
    request_message: reflection_pb2.ServerReflectionRequest,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Reflection answers that there is no such thing, and nothing is logged."""
    answer = await reflect(channel, V1, request_message)
    assert answer.HasField("error_response")
    assert caplog.records == []
