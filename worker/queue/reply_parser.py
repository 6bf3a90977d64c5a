"""The parser of connections to Redis, which bounds the memory that large replies take.

hiredis keeps the buffer of a reply until the connection gets its next one. That may take long, because the next commands may
use other connections. So the parser frees it at once. And it keeps nothing of an entry of which only the arrival matters.
"""

import re
import weakref
from typing import Any, Final

from redis._parsers import _HiredisParser
from redis.client import NEVER_DECODE

from worker.queue.large_replies import LARGE_BYTES, large_replies
from worker.queue.reply_end import ReplyEnd

BEGINNING_ONLY: Final = {NEVER_DECODE: True}
"""Options of a command about entries, if it matters only whether there are any.

No text is decoded here anyway, and this is the only option that redis-py hands on to a parser.
"""

NOT_KEPT: Final = [[b"", []]]
"""Stands for the entries of a reply that wasn't kept, because one has a large picture."""

_LARGE_STRING: Final = re.compile(rb"\$\d{7,}\r\n")
"""The length of a string in a reply, if it has seven digits, which is about LARGE_BYTES."""

_SEARCHED_BYTES: Final = 1024
"""Where that of a picture is: an entry has few other fields, and they are short."""

_EMPTY_REPLY: Final = b"+\r\n"
_ARRAY: Final = ord("*")


class _PassedError(Exception):
    """A reply has ended that wasn't kept."""


class ReplyParser(_HiredisParser):
    """A connection's parser that keeps no memory of a large reply beyond its end.

    A reply to GET, a picture under a key of its own, isn't read apart: it is as large as one picture, and goes the way of
    decoded ones.
    """

    _reader: Any
    """hiredis' one; a :class:`ReplyEnd` while a reply passes that isn't kept."""
    _beginning_only = False
    """Whether only the beginning of the reply that is being read matters."""
    _begins = False
    """Whether nothing of it has come yet."""
    _first = 0
    """Bytes of its beginning, if only that matters and nothing else has come; else 0."""
    _has_entries = False
    """Whether it is an array, as those with entries are. Commands that are sent together have replies of one kind."""
    _apart = False
    """Whether it is large, and has entries."""
    _grown = False
    """Whether the buffer may be large."""

    def on_connect(self, connection: Any, **options: Any) -> None:
        """Begins with a new connection to the server."""
        super().on_connect(connection, **options)  # type: ignore[no-untyped-call]
        self._connection = weakref.ref(connection)

    def read_from_socket(self, *args: Any, **options: Any) -> Any:
        """Reads what has come, or waits for it."""
        if self._first:
            self._pass_if_large(*args, **options)
        reader = self._reader  # another thread that disconnects takes it away
        # hiredis has a little of the reply before this one for a while.
        before = reader.len() if self._begins and reader is not None else 0
        result = super().read_from_socket(*args, **options)  # type: ignore[no-untyped-call]
        if self._begins:
            self._begins = False
            self._has_entries = self._buffer[0] == _ARRAY
            self._first = reader.len() - before if self._beginning_only else 0
        if not self._apart and reader.len() > LARGE_BYTES:
            self._grown = True
            if self._has_entries:
                self._apart = True
                large_replies.begin()
        return result

    def _pass_if_large(self, *args: Any, **options: Any) -> None:
        """Lets the rest of a reply pass, if its beginning says that it is large, and raises _PassedError."""
        first, self._first = self._first, 0
        if _LARGE_STRING.search(self._buffer, 0, min(first, _SEARCHED_BYTES)):
            end = self._reader = ReplyEnd()
            end.feed(self._buffer, 0, first)
            while not end.passed:
                super().read_from_socket(*args, **options)  # type: ignore[no-untyped-call]
            raise _PassedError

    def read_response(self, *args: Any, **options: Any) -> Any:
        """Returns the next reply; one that isn't to be decoded may be :data:`NOT_KEPT`, see :data:`BEGINNING_ONLY`."""
        reader = self._reader
        self._begins = reader is not None and not reader.has_data()
        self._beginning_only = options.get("disable_decoding", False)
        try:
            return super().read_response(*args, **options)
        except _PassedError:
            return NOT_KEPT
        finally:
            self._first = 0
            if isinstance(self._reader, ReplyEnd):  # else the connection is lost, or the reply was kept
                super().on_connect(self._connection())  # type: ignore[no-untyped-call]
            if self._apart:
                self._apart = False
                large_replies.end()
            reader = self._reader
            if self._grown and reader is not None and not reader.has_data():
                self._grown = False
                _free_buffer(reader)


def _free_buffer(reader: Any) -> None:
    """Has hiredis free its buffer, which it does when it is fed while that is empty."""
    reader.feed(_EMPTY_REPLY)
    reader.gets()
