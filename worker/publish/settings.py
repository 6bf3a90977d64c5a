"""The flags of ``hand-counter publish``."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field

from handcounter.pacing.schedule import stream_name_error
from process.fields import Number, Seconds
from worker.publish.options import (
    CameraOptions,
    PublishOptions,
    SourceOptions,
)
from worker.publish.sending_settings import SendingSettings
from worker.publish.source_settings import SourceSettings


def _stream_name(value: str) -> str:
    if error := stream_name_error(value):
        raise ValueError(error)
    return value


class PublishSettings(SourceSettings, SendingSettings):
    """Publishes frames from a camera, a video file or a folder of pictures to the queue."""

    EXAMPLES: ClassVar[str] = """\
SOURCE is a video file or pipe, a folder of pictures, a webcam's number or path, the URL of a camera or film (RTSP, HTTP,
RTMP, SRT, UDP), or a simulated camera. A film is published at the pace of its own timestamps, and waits while Redis is
unreachable or the queue is full. A camera doesn't wait: frames that can't be published in time are dropped and counted. A
lost camera is retried until it works again. Ctrl-C ends the command within a second. docs/cameras.md has more.

examples:
  hand-counter publish video.mp4 --stream-name cam1 --loop
  hand-counter publish video.mp4 --stream-name cam1 --fast                      every admitted frame is counted
  hand-counter publish 0 --stream-name desk                                     the first webcam
  hand-counter publish --source-file door.url --stream-name door                a camera; its URL isn't shown by ps
  hand-counter publish rtsp://user:{PASSWORD}@camera.local/stream --source-password-file door.password --stream-name door
  hand-counter publish http://camera.local/mjpeg --stream-name door             motion JPEG isn't encoded again
  hand-counter publish http://camera.local/snapshot.jpg --stream-name yard --source-fps 1
  hand-counter publish 0 --stream-name desk --sidecar 127.0.0.1:50051           only frames that will be admitted
  hand-counter publish photos/ --stream-name album --source-fps 2
  hand-counter publish /srv/ftp/door --stream-name door --watch                 what a camera uploads
  hand-counter publish synthetic:fps=15,hands=0-3,seed=1 --stream-name sim1     a simulated camera with moving hands

  redis-cli HSET stream_fps_configs cam1 0.25                                   sets the limit of a stream
"""

    stream_name: Annotated[str, AfterValidator(_stream_name)] = Field(
        description="name of the stream, 1 to 256 characters", json_schema_extra={"metavar": "NAME"}
    )
    loop: bool = Field(False, description="start a file or folder over at its end; ts continues")
    fast: bool = Field(
        False,
        description="publish a file as fast as its frames are counted: they wait for that, behind those of cameras; "
        "ts still follows the file's timestamps",
    )
    source_fps: Number = Field(
        10.0,
        gt=0,
        le=1000,
        description="pictures per second of a folder, and requests per second to a URL that answers with one picture",
    )
    watch: bool = Field(False, description="publish the pictures that arrive in a folder from now on")
    count: int | None = Field(None, ge=1, description="stop after this many published frames")
    duration: Seconds = Field(float("inf"), description="stop after this many seconds on the frames' own clock")
    jpeg_quality: int = Field(85, ge=1, le=100, description="JPEG quality when frames must be encoded")
    progress: Seconds = Field(5.0, description="seconds between progress lines; inf: none")

    def arguments(self) -> dict[str, Any]:
        """Returns the arguments of :func:`worker.publish.command.run_publish`."""
        return {"options": self.options}

    @property
    def options(self) -> PublishOptions:
        """These settings as a value."""
        return PublishOptions(
            camera=CameraOptions(
                stream_name=self.stream_name,
                source=SourceOptions(
                    source=self.source,
                    password_file=self.source_password_file,
                    loop=self.loop,
                    fast=self.fast,
                    folder_fps=self.source_fps,
                    watch=self.watch,
                    reception=self.reception,
                    jpeg_quality=self.jpeg_quality,
                ),
            ),
            destination=self.destination,
            limits=self.limits,
            count=self.count,
            duration=self.duration,
            progress=self.progress,
        )
