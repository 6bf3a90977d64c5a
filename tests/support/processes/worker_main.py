"""A worker process with a fake detector: python -m support.processes.worker_main [gpu:]SECONDS FLAGS_OF_RUN..."""

import functools
import sys

from support.models.fake_detector import fake_detector

from process import logs
from process.settings import Parser, add_flags, settings_from
from worker.hand_counter import in_processes, serve
from worker.run_settings import RunSettings

parser = Parser(prog="worker_main")
add_flags(parser, RunSettings)
settings = settings_from(RunSettings, parser.parse_args(sys.argv[2:]), parser)
logs.set_up(settings.log_level, settings.log_format)
make = functools.partial(fake_detector, sys.argv[1])
# A GPU is shared by all threads, unlike the processor.
make = functools.cache(make) if sys.argv[1].startswith("gpu:") else make
sys.exit(in_processes(settings.options, lambda options, report: serve(make, options, report_address=report)))
