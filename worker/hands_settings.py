"""The flags that say how hands are found; ``run`` and ``detect`` have them."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from process.fields import Number
from worker.backend import AUTO, BACKENDS, backend_error, names
from worker.hands.effort import Effort
from worker.options import HamerPrecision, HandsOptions
from worker.settings import WorkerSettings


def _check_backend(name: str) -> str:
    if name not in names():
        raise ValueError(f"must be one of {', '.join(names())}")
    return name


BackendName = Annotated[
    str, AfterValidator(_check_backend), Field(json_schema_extra={"metavar": "|".join((AUTO, *BACKENDS))})
]


class HandsSettings(WorkerSettings):
    """How hands are found."""

    effort: Effort = Field(
        Effort.BALANCED, description="work for each picture: thorough finds more hands, fast takes less time"
    )
    min_score: Number | None = Field(
        None,
        ge=0,
        le=1,
        description="lowest score at which a detection counts as a hand; default: the effort's own, 0.7 or 0.8",
        json_schema_extra={"metavar": "X"},
    )
    models_dir: Path | None = Field(None, description="folder of the hand models; default: the user's cache")
    backend: BackendName = Field(
        AUTO, description="what finds the hands; auto: HaMeR if a checkpoint is given, else the palm detector"
    )
    hamer_checkpoint: Path | None = Field(None, description="hamer.ckpt, with model_config.yaml beside or above it")
    mano: Path | None = Field(None, description="MANO_RIGHT.pkl, if the checkpoint lacks the hand model")
    device: str = Field(
        "auto", description="what the networks run on: cpu, cuda or cuda:N; auto: a GPU if there is one"
    )
    hamer_precision: HamerPrecision = Field(
        "auto",
        description="number format of HaMeR's backbone; auto: float16 on a GPU, bfloat16 if that overflows or on a CPU that "
        "computes with it, else float32",
    )
    hamer_compile: Literal["auto", "on", "off"] = Field(
        "auto",
        description="compile HaMeR's backbone with torch.compile; auto: on a GPU, if it is measured to be faster",
    )
    hamer_cache: Path | None = Field(
        None, description="folder of what was measured and compiled for HaMeR on a GPU; default: the user's cache"
    )
    mesh: bool = Field(False, description="add HaMeR's meshes to the results and drawings")

    @model_validator(mode="after")
    def _backend_is_configured(self) -> Self:
        if error := backend_error(self.hands_options):
            raise ValueError(error)
        return self

    @property
    def hands_options(self) -> HandsOptions:
        """These settings as a value."""
        return HandsOptions(
            backend=self.backend,
            effort=self.effort,
            min_score=self.min_score,
            models_dir=self.models_dir,
            hamer_checkpoint=self.hamer_checkpoint,
            mano=self.mano,
            device=self.device,
            mesh=self.mesh,
            hamer_precision=self.hamer_precision,
            hamer_compile=self.hamer_compile,
            hamer_cache=self.hamer_cache,
        )
