"""``hand-counter models fetch``: downloads the hand models, or HaMeR's weights."""

from __future__ import annotations

import sys
from dataclasses import astuple
from pathlib import Path
from typing import TextIO, cast

from process.output import Output
from worker.download import download_progress
from worker.hamer.fetch import FetchError, fetch_hamer
from worker.hands.models import TITLE, ModelError, default_models_dir, fetch_models


def run_models_fetch(models_dir: Path | None = None, *, hamer: bool = False, accept_licence: bool = False) -> int:
    """Downloads the models that are missing or wrong, and prints where they are.

    Args:
        models_dir: the models' folder; None means the one in the user's cache.
        hamer: downloads HaMeR's weights instead of the hand models.
        accept_licence: the user has consented to the licences of HaMeR's weights.

    Returns:
        The exit code: 0 if the right models are in their place, else 1; standard error has the reason.
    """
    output, stderr = Output(sys.stdout), Output(sys.stderr)
    try:
        folder = models_dir or default_models_dir()
        if hamer:
            paths = [_fetch_hamer(folder, accept_licence, stderr)]
        else:
            with download_progress(cast(TextIO, stderr), TITLE) as progress:
                fetched = fetch_models(folder, progress)
            paths = list(astuple(fetched))
    except (ModelError, FetchError) as error:
        stderr.line(f"hand-counter: {error}")
        return 1
    except KeyboardInterrupt:
        stderr.line("hand-counter: interrupted; what was downloaded is kept")
        return 1
    for path in paths:
        output.line(str(path))
    if output.problem:
        stderr.line(f"hand-counter: the models are in {folder}, but standard output failed: {output.problem}")
        return 1
    return 0


def _fetch_hamer(folder: Path, accept_licence: bool, stderr: Output) -> Path:
    ask = _ask if sys.stdin and sys.stdin.isatty() else None
    return fetch_hamer(folder, accept_licence=accept_licence, stream=cast(TextIO, stderr), ask=ask)


def _ask(question: str) -> str:
    """Returns the answer to a question; empty if the user ends the input."""
    try:
        return input(question)
    except EOFError:
        return ""
