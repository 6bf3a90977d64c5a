"""The flags of ``hand-counter results``."""

from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from worker.settings import QueueSettings


class ResultsSettings(QueueSettings):
    """Prints the results that Redis keeps, oldest first."""

    EXAMPLES: ClassVar[str] = """\
examples:
  hand-counter results                               all that are kept
  hand-counter results --follow --stream cam1        those to come of one stream, until Ctrl-C
  hand-counter results --last 20 --follow            the last 20, and those to come
  hand-counter results --csv > results.csv
  hand-counter results --jsonl | jq .hand_count      the fields of docs/results.md
"""

    stream: str = Field("", description="only of this stream", json_schema_extra={"metavar": "NAME"})
    follow: bool = Field(False, description="wait for new results and print them too; without --last only those")
    last: int | None = Field(None, ge=1, description="only so many of the newest")
    csv: bool = Field(False, description="print comma-separated values with a header")
    jsonl: bool = Field(False, description="print each result as a line of JSON")

    @model_validator(mode="after")
    def _one_format(self) -> Self:
        if self.csv and self.jsonl:
            raise ValueError("give --csv or --jsonl, not both")
        return self

    def arguments(self) -> dict[str, Any]:
        """Returns the arguments of :func:`worker.results_command.run_results`."""
        given = super().arguments()
        given["format_name"] = "csv" if given.pop("csv") else "text"
        if given.pop("jsonl"):
            given["format_name"] = "jsonl"
        return given
