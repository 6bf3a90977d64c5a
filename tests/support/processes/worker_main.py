"""A worker process with a fake detector: python -m support.processes.worker_main SECONDS_PER_FRAME FLAGS_OF_RUN..."""

import sys

from support.models.fake_detector import FakeDetector

from process import logs
from process.settings import Parser, add_flags, settings_from
from worker.hand_counter import serve
from worker.run_settings import RunSettings

parser = Parser(prog="worker_main")
add_flags(parser, RunSettings)
settings = settings_from(RunSettings, parser.parse_args(sys.argv[2:]), parser)
logs.set_up(settings.log_level, settings.log_format)
sys.exit(serve(lambda: FakeDetector(float(sys.argv[1])), settings.options))
