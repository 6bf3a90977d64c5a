"""The flags of ``hand-counter publish``."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from handcounter.pacing.schedule import stream_name_error
from process.fields import FiniteSeconds, Seconds
from process.settings import Positional
from worker.publish.source import kind_of
from worker.settings import QueueSettings


def _source(value: str) -> str:
    kind_of(value)
    return value


def _stream_name(value: str) -> str:
    if error := stream_name_error(value):
        raise ValueError(error)
    return value


class PublishSettings(QueueSettings):
    """Turns a camera, a video file or a folder of pictures into frames of the queue."""

    EXAMPLES: ClassVar[str] = """\
SOURCE is a video file, a folder of pictures, a webcam's index, an RTSP or HTTP URL, or a drawn camera. A file is
published at the pace of its own timestamps, and waits where Redis is away. A camera goes on: what can't be sent in
time is dropped, and counted; a lost one is tried again until it is back. Ctrl-C ends it within a second.

examples:
  hand-counter publish video.mp4 --stream-name cam1 --loop
  hand-counter publish video.mp4 --stream-name cam1 --fast --payload-ttl 600    as fast as it can be read
  hand-counter publish 0 --stream-name desk                                     the first webcam
  hand-counter publish rtsp://user:password@camera.local/stream --stream-name door
  hand-counter publish http://camera.local/mjpeg --stream-name door             motion JPEG goes out as it came
  hand-counter publish photos/ --stream-name album --source-fps 2
  hand-counter publish synthetic:fps=15,hands=0-3,seed=1 --stream-name drawn    moving hands, drawn

  redis-cli HSET stream_fps_configs cam1 0.25                                   the limit of a stream
"""

    source: Annotated[str, Positional(), AfterValidator(_source)] = Field(
        description="file, folder, webcam index, URL, or synthetic:fps=,hands=,seed=,size=,jitter="
    )
    stream_name: Annotated[str, AfterValidator(_stream_name)] = Field(
        description="the stream's name, 1 to 256 characters", json_schema_extra={"metavar": "NAME"}
    )
    loop: bool = Field(False, description="begin a file or folder again at its end; ts goes on")
    fast: bool = Field(False, description="don't wait for a file's timestamps; ts advances by them all the same")
    source_fps: float = Field(10.0, gt=0, le=1000, description="the pace of a folder of pictures")
    count: int | None = Field(None, ge=1, description="end after so many published frames")
    duration: Seconds = Field(float("inf"), description="end after so many seconds, by the frames' own clock")
    jpeg_quality: int = Field(85, ge=1, le=100, description="of pictures that don't come as JPEG")
    payload_ttl: FiniteSeconds = Field(
        30.0, ge=0.1, le=1e6, description="seconds after which a picture that no worker has fetched is gone"
    )
    max_queue: int = Field(10_000, ge=1, description="about how many entries the queue keeps, of all streams")
    progress: Seconds = Field(5.0, description="seconds between two lines about the progress; inf: none")
