"""The flags of ``hand-counter detect`` and ``hand-counter models fetch``."""

from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from process.settings import Positional
from worker.hands_settings import HandsSettings
from worker.settings import WorkerSettings


class DetectSettings(HandsSettings):
    """Finds the hands in image files, without a queue or a limit."""

    EXAMPLES: ClassVar[str] = """\
examples:
  hand-counter detect photo.jpg
  hand-counter detect photos/ --draw out/            annotated copies of all pictures in the folder
  hand-counter detect photo.jpg --hamer-checkpoint hamer.ckpt --mesh --draw out/
  hand-counter detect a.jpg b.png --json             {image: {"hand_count": ..., "hands": [...], ...}, ...}
  hand-counter detect a.jpg --hamer-checkpoint hamer.ckpt --explain      which hands HaMeR dropped, and why
"""

    images: Annotated[list[str], Positional()] = Field(description="image files, or folders of them")
    json_output: bool = Field(
        False, description="print one JSON object: a result for each picture", json_schema_extra={"flag": "--json"}
    )
    draw_dir: Path | None = Field(
        None, description="folder for annotated copies", json_schema_extra={"flag": "--draw", "metavar": "DIR"}
    )

    explain: bool = Field(False, description="print the hands that HaMeR dropped as well, with the reason")

    def arguments(self) -> dict[str, Any]:
        """Returns the arguments of :func:`worker.detect.run_detect`."""
        return {
            "images": self.images,
            "hands": self.hands_options,
            "json_output": self.json_output,
            "draw_dir": self.draw_dir,
            "explain": self.explain,
        }


class ModelsFetchSettings(WorkerSettings):
    """Downloads the hand models (36 MB, once) and checks them; or, with --hamer, HaMeR's weights."""

    EXAMPLES: ClassVar[str] = """\
examples:
  hand-counter models fetch
  hand-counter models fetch --models-dir /models     for an image, or a machine without a network
  hand-counter models fetch --hamer                  HaMeR's weights (6 GB), after consent to their licences
"""

    models_dir: Path | None = Field(None, description="folder of the hand models; default: the user's cache")
    hamer: bool = Field(False, description="fetch HaMeR's official weights instead; asks for consent to their licences")
    accept_licence: bool = Field(False, description="consent to the licences of HaMeR's weights without being asked")
