"""The options of the worker's pipeline in benches: those that ship, but for what a bench names."""

import dataclasses
from typing import Any

from worker.options import PipelineOptions
from worker.run_settings import RunSettings


def pipeline_options(**changes: Any) -> PipelineOptions:
    """Returns the defaults of ``hand-counter run`` with changes."""
    return dataclasses.replace(RunSettings().options.pipeline, **changes)
