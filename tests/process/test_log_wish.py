"""Which log format a command line wishes, before its settings are read."""

import argparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from process.log_wish import wishes_json
from process.settings import Parser


@pytest.mark.parametrize(
    ("words", "variables", "json"),
    [
        ([], {}, False),
        (["--log-format", "json"], {}, True),
        (["run", "--fps", "x", "--log-format=JSON"], {}, True),
        (["--log-format", " json\n"], {}, True),
        (["--log-format"], {}, False),
        (["--log-format", "--fps"], {}, False),
        (["--log-format", "xml"], {"TOY_LOG_FORMAT": "json"}, False),
        (["--log-format", "json", "--log-format", "text"], {}, False),
        (["--log-formats", "json"], {}, False),
        (["--", "--log-format", "json"], {}, False),
        (["json"], {}, False),
        ([], {"TOY_LOG_FORMAT": "json"}, True),
        ([], {"toy_log_format": "Json "}, True),
        ([], {"TOY_LOG_FORMAT": ""}, False),
        ([], {"OTHER_LOG_FORMAT": "json"}, False),
        (["--log-format", "text"], {"TOY_LOG_FORMAT": "json"}, False),
    ],
)
def test_the_flag_wins_over_the_variable(words: list[str], variables: dict[str, str], json: bool) -> None:
    """And the last flag over those before; a value is read as that of any setting."""
    assert wishes_json(words, variables, "TOY_") is json


WORDS = st.sampled_from(
    ["--log-format", "--log-format=json", "--log-format=text", "json", "text", "--fps", "1", "-x", "--"]
)


@given(st.lists(WORDS, max_size=6))
def test_it_is_what_the_parser_reads(words: list[str]) -> None:
    """Whenever the parser accepts the arguments, both agree."""
    parser = Parser(prog="toy", exit_on_error=False)
    parser.add_argument("--log-format", default="text")
    parser.add_argument("--fps", default="1")
    try:
        given, _ = parser.parse_known_args(words)
    except argparse.ArgumentError:
        return
    except SystemExit:
        return
    assert wishes_json(words, {}, "TOY_") is (given.log_format == "json")
