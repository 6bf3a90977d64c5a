"""Generates requests: valid ones, ones at the bounds of the contract, broken ones, and noise. Pure, seeded.

It follows the contract's descriptor, so new methods and fields are fuzzed without a change here.
"""

import random
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import DecodeError, Message

from handcounter.ratelimit.v1 import rate_limit_pb2

SERVICE = rate_limit_pb2.DESCRIPTOR.services_by_name["RateLimitService"]
LONGEST_SESSION = 6
BIGGEST_BATCH = 300
"""Most batches are far smaller; a few hold more frames than the contract allows."""
TOO_MANY = 4097
MOST_REPORTS = 16
"""In most requests; generating one takes ten times as long as a frame."""

_DOUBLES = (
    0.0,
    -0.0,
    1.0,
    1e9,
    1e11,
    1.0000000001e11,
    -1e-300,
    5e-324,
    1e308,
    float("nan"),
    float("inf"),
    -float("inf"),
)
_TEXTS = (
    "",
    " ",
    "*",
    "cam1",
    "x" * 256,
    "x" * 257,
    "é" * 256,
    "\U0001f441" * 256,
    "\U0001f441" * 257,
    "a\0b",
    "\n",
    "x" * 9000,
)
_INTEGERS = (0, 1, -1, 2, 100, 1000, 1001, 2**31 - 1, -(2**31))
_LONG_INTEGERS = (*_INTEGERS, 2**31, 2**31 + 1, 2**63 - 1, -(2**63))
_DENIALS = [number for number in rate_limit_pb2.Reason.values() if number > rate_limit_pb2.REASON_ADMITTED]
"""The values of an enum in a request: the reason in a report of denials."""


class Call(NamedTuple):
    """One call of a method: the bytes of its requests; exactly one, unless the method is a session."""

    method: MethodDescriptor
    requests: list[bytes]


class Generator:
    """An endless source of calls; the same seed gives the same calls."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._now = 1.7e9

    def call(self) -> Call:
        """Returns the next call."""
        method = self._random.choice(SERVICE.methods)
        count = self._random.randint(1, LONGEST_SESSION) if method.client_streaming else 1
        # Half of the sessions are valid up to their last request; most others end with the first or second request.
        make = self._well_formed if self._random.random() < 0.5 else self._request
        return Call(method, [make(method.input_type) for _ in range(count - 1)] + [self._request(method.input_type)])

    def noise(self) -> bytes:
        """Returns bytes for a port that expects HTTP/2, sometimes after its preface."""
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" if self._random.random() < 0.7 else b""
        frames = b"".join(self._frame() for _ in range(self._random.randint(0, 8)))
        return preface + self._mutated(frames) if self._random.random() < 0.5 else preface + frames

    def _frame(self) -> bytes:
        body = self._random.randbytes(self._random.choice((0, 1, 4, 6, 8, 40, 300)))
        kind, flags = self._random.randrange(12), self._random.choice((0, 1, 4, 5, 0x2D, 0xFF))
        return (
            struct.pack(">I", len(body))[1:]
            + bytes((kind, flags))
            + struct.pack(">I", self._random.choice((0, 1, 3, 2**31)))
            + body
        )

    def _request(self, kind: Descriptor) -> bytes:
        die = self._random.random()
        if die < 0.1:
            return self._random.randbytes(self._random.choice((0, 1, 3, 17, 120, 4000)))
        data = self._message(kind, edges=0.0 if die < 0.5 else 0.05 if die < 0.6 else 0.4).SerializeToString()
        return self._mutated(data) if die > 0.75 else data

    def _well_formed(self, kind: Descriptor) -> bytes:
        return self._message(kind, edges=0.0).SerializeToString()

    def _message(self, kind: Descriptor, edges: float, absent: float = 0.1) -> Message:
        message = message_factory.GetMessageClass(kind)()
        length = self._length(edges)
        for field in kind.fields:
            if self._random.random() < absent + edges / 2:
                continue
            if field.is_repeated:
                # Most of the time the columns have equal lengths.
                own = self._length(edges) if self._random.random() < edges else length
                if field.message_type and own < TOO_MANY:
                    own %= MOST_REPORTS
                for _ in range(own):
                    self._add(message, field, edges)
            elif field.message_type:
                getattr(message, field.name).CopyFrom(self._message(field.message_type, edges, absent=0.0))
            else:
                setattr(message, field.name, self._value(field, edges))
        return message

    def _add(self, message: Message, field: FieldDescriptor, edges: float) -> None:
        column: Any = getattr(message, field.name)
        if field.message_type:
            column.add().CopyFrom(self._message(field.message_type, edges, absent=0.0))
        else:
            column.append(self._value(field, edges))

    def _length(self, edges: float) -> int:
        if self._random.random() < edges / 100:
            return TOO_MANY
        return int(BIGGEST_BATCH ** self._random.random()) - 1

    def _value(self, field: FieldDescriptor, edges: float) -> object:
        is_edge = self._random.random() < edges
        if field.type == FieldDescriptor.TYPE_DOUBLE:
            if is_edge:
                return self._random.choice(_DOUBLES)
            self._now += 0.001
            ts = self._now + self._random.gauss(0.0, 3.0)
            # Half of them are equal, or less than a period apart.
            return ts if self._random.random() < 0.5 else round(ts, 1) + self._random.choice((0.0, 0.0005))
        if field.type == FieldDescriptor.TYPE_STRING:
            if is_edge:
                return self._random.choice(_TEXTS)
            return (
                f"camera-{int(20_000 ** self._random.random())}"  # half of the names are among a hundred
                if self._random.random() < 0.9
                else f"n{self._random.random()}"
            )
        if field.type == FieldDescriptor.TYPE_BOOL:
            return self._random.random() < 0.5
        if field.type == FieldDescriptor.TYPE_BYTES:
            return self._random.randbytes(8)
        if field.type == FieldDescriptor.TYPE_ENUM and not is_edge:
            return self._random.choice(_DENIALS)
        integers = _LONG_INTEGERS if field.type == FieldDescriptor.TYPE_INT64 else _INTEGERS
        return self._random.choice(integers) if is_edge else self._random.randrange(6)

    def _mutated(self, data: bytes) -> bytes:
        mutable = bytearray(data)
        for _ in range(self._random.choice((1, 1, 2, 5, 20))):
            self._random.choice(self._mutations)(self, mutable)
        return bytes(mutable)

    def _flip(self, data: bytearray) -> None:
        if data:
            data[self._random.randrange(len(data))] ^= 1 << self._random.randrange(8)

    def _insert(self, data: bytearray) -> None:
        place = self._random.randint(0, len(data))
        data[place:place] = self._random.randbytes(self._random.randint(1, 9))

    def _cut(self, data: bytearray) -> None:
        start = self._random.randint(0, len(data))
        del data[start : start + self._random.randint(1, 30)]

    def _truncate(self, data: bytearray) -> None:
        del data[self._random.randint(0, len(data)) :]

    def _repeat(self, data: bytearray) -> None:
        start = self._random.randint(0, len(data))
        data.extend(data[start : start + 2000])

    _mutations: tuple[Callable[["Generator", bytearray], None], ...] = (_flip, _insert, _cut, _truncate, _repeat)


def decoded(kind: Descriptor, data: bytes) -> Any:
    """Returns the message, or None if the bytes can't be decoded."""
    try:
        return message_factory.GetMessageClass(kind).FromString(data)
    except DecodeError:
        return None
