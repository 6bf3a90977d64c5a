"""Opens the source that users name."""

from __future__ import annotations

import time

import cv2

from worker.picture import Picture
from worker.publish.film import Film, Folder, SimulatedCamera
from worker.publish.live import LiveCamera
from worker.publish.options import SourceOptions
from worker.publish.source import Encode, Kind, Source, kind_of
from worker.synthetic.spec import parse_synthetic


def open_source(options: SourceOptions) -> Source:
    """Opens a source. Raises SourceError."""
    name, start, paced, encode = options.source, time.time(), not options.fast, jpeg_encoder(options.jpeg_quality)
    match kind_of(name):
        case Kind.SYNTHETIC:
            return SimulatedCamera(parse_synthetic(name), encode, paced=paced)
        case Kind.WEBCAM:
            return LiveCamera.from_webcam(int(name), encode)
        case Kind.CAMERA_URL:
            return LiveCamera.from_url(name, encode)
        case Kind.FOLDER:
            return Folder(name, encode, fps=options.folder_fps, start=start, loop=options.loop, paced=paced)
        case Kind.FILM:
            return Film(name, encode, start=start, loop=options.loop, paced=paced)


def jpeg_encoder(quality: int) -> Encode:
    """Returns a function that encodes pictures as JPEG of this quality, 1 to 100."""

    def encode(picture: Picture) -> bytes:
        return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()

    return encode
