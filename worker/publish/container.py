"""Opens what FFmpeg can read, with time-outs and a reason for each failure, and tells films, cameras and snapshots apart."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

import av

from worker.publish.failure import NO_DECODER, no_video, unresolved, why_not_opened
from worker.publish.options import Reception
from worker.publish.source import SourceError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

_CLOCK_MAY_CHANGE = 0x0200
"""FFmpeg's AVFMT_TS_DISCONT: a container whose timestamps may jump, such as a transport stream."""


_METADATA: dict[str, Any] = {"metadata_errors": "replace"} if av.__version__.startswith("18.") else {}
"""Titles in an unknown encoding are no error. From version 19 on, PyAV knows that itself."""

_PLAYLISTS = ("hls", "dash")
"""FFmpeg's formats of lists of films; their size isn't that of the films."""


class Nature(enum.Enum):
    """What a container is, whatever it is called."""

    FILM = enum.auto()
    """It has an end, and times of its own."""
    CAMERA = enum.auto()
    """It continues without end, at the pace of what it shows."""
    SNAPSHOT = enum.auto()
    """A single picture."""


def open_container(
    opens: str, name: str, reception: Reception, kind: str | None = None, options: dict[str, str] | None = None
) -> InputContainer:
    """Opens a file, URL or device.

    Args:
        opens: what FFmpeg opens; it may hold a password.
        name: for errors.
        reception: how network sources are received.
        kind: FFmpeg's name of the container's format, if it mustn't be guessed.
        options: FFmpeg's options beside those of the protocol.

    Raises:
        SourceError: it can't be opened; the text has the reason and what to try.
    """
    if "://" in opens and (reason := unresolved(opens)):
        raise SourceError(f"{name} can't be opened: {reason}")
    # The writer of a pipe may be slow.
    times = (reception.timeout, reception.timeout) if "://" in opens else None
    given = {**_options(opens, reception), **(options or {})}
    try:
        opened: InputContainer = av.open(opens, "r", format=kind, options=given, timeout=times, **_METADATA)
        return opened
    except (av.FFmpegError, OSError) as error:
        raise SourceError(f"{name} can't be opened: {why_not_opened(error, opens, reception.timeout)}") from None


def _options(opens: str, reception: Reception) -> dict[str, str]:
    if opens.startswith(("rtsp:", "rtsps:")):
        # The rate is learned from what arrives, so no packets are collected at the start to estimate it.
        return {"rtsp_transport": reception.transport, "allowed_media_types": "video", "fpsprobesize": "0"}
    if opens.startswith("udp:"):
        # Bytes that wait while a picture is decoded; what is more is lost, as with any camera that is too fast.
        return {"fifo_size": "50000", "overrun_nonfatal": "1"}
    if opens.startswith(("rtmp:", "rtmps:")):
        return {"rtmp_live": "live"}
    return {}


def video_of(container: InputContainer, name: str) -> VideoStream:
    """Returns the video that is shown, of possibly several. Raises SourceError if none can be decoded."""
    streams = [each for each in container.streams.video if not each.disposition & _COVER]
    if not streams:
        kinds: list[str] = [each.type for each in container.streams]
        raise SourceError(f"{name}: {no_video(kinds)}")
    decodable = [each for each in streams if each.codec_context is not None]
    if not decodable:
        raise SourceError(f"{name}: {NO_DECODER}")
    best = container.streams.best("video")
    return next((each for each in decodable if each is best), decodable[0])


_COVER = av.stream.Disposition.attached_pic
"""The picture of an album isn't a video."""


def nature_of(container: InputContainer) -> Nature:
    """Returns what an HTTP server sends: a film has a duration or a size, a camera neither."""
    if container.format.name.endswith("_pipe"):
        return Nature.SNAPSHOT
    size = 0 if container.format.name in _PLAYLISTS else (container.size or 0)  # None from PyAV 19 on
    if (container.duration or 0) > 0 or size > 0:
        return Nature.FILM
    return Nature.CAMERA


def clock_may_change(container: InputContainer) -> bool:
    """Returns whether a jump of the container's timestamps may be an artefact."""
    return bool(container.format.flags & _CLOCK_MAY_CHANGE)
