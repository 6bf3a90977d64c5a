"""What is made of the command line and the environment."""

import pytest

from console.fpsctl.arguments import global_flags_first, inherited

FLAGS = {"--redis-url": True, "--sidecar": True, "--switch": False}


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ("list", "list"),
        ("list --redis-url U --json", "--redis-url U list --json"),
        ("list --redis-url=U", "--redis-url=U list"),
        ("top --sidecar A --sidecar B x", "--sidecar A --sidecar B top x"),
        ("top --switch x", "--switch top x"),
        ("set -- --sidecar 2", "set -- --sidecar 2"),
        ("list --sidecar", "--sidecar list"),
    ],
)
def test_flags_of_the_program_may_come_last(argv: str, expected: str) -> None:
    """They are moved before the command; what follows -- stays."""
    assert global_flags_first(argv.split(), FLAGS) == expected.split()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, {}),
        ({"SIDECAR_REDIS_URL": "s", "WORKER_REDIS_URL": "w"}, {"FPSCTL_REDIS_URL": "s"}),
        (
            {"WORKER_REDIS_URL": "w", "WORKER_REDIS_PASSWORD": "p"},
            {"FPSCTL_REDIS_URL": "w", "FPSCTL_REDIS_PASSWORD": "p"},
        ),
        ({"FPSCTL_REDIS_URL": "own", "SIDECAR_REDIS_PASSWORD": "p"}, {}),
        ({"FPSCTL_REDIS_URL": "", "SIDECAR_REDIS_URL": "s"}, {"FPSCTL_REDIS_URL": "s"}),
        ({"SIDECAR_LISTEN": "0.0.0.0:50051,unix:/run/x"}, {"FPSCTL_SIDECAR": "127.0.0.1:50051"}),
        ({"SIDECAR_LISTEN": "unix:/run/x"}, {"FPSCTL_SIDECAR": "unix:/run/x"}),
        (
            {"WORKER_SIDECAR": "sidecar:50051", "WORKER_PREFIX": "p"},
            {"FPSCTL_SIDECAR": "sidecar:50051", "FPSCTL_PREFIX": "p"},
        ),
        ({"SIDECAR_CONFIG_KEY": "k"}, {"FPSCTL_CONFIG_KEY": "k"}),
        ({"SIDECAR_CONFIG_KEY": "k", "FPSCTL_CONFIG_KEY": "own"}, {}),
    ],
)
def test_what_a_container_says(environ: dict, expected: dict) -> None:
    """Its program's variables are used where fpsctl has none; where Redis is, all of them or none."""
    assert inherited(environ) == expected
