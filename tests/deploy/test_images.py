"""The built images are small, hardened and complete, and work without a network."""

import contextlib
import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator

import pytest
from support.deploy import needs_engine, run
from support.processes.programs import REPOSITORY
from support.waiting import wait_until

pytestmark = [pytest.mark.slow, needs_engine]

VERSION = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
BASE = "python:3.11-slim-bookworm"
SIDECAR = f"localhost/hand-counter/sidecar:{VERSION}"
WORKER = f"localhost/hand-counter/worker:{VERSION}"
HARDENED = shlex.split("--read-only --cap-drop ALL --security-opt no-new-privileges --network none")


def docker(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs the docker client."""
    return run("/usr/bin/docker", *words, check=check)


def inspect(image: str) -> dict:
    """Returns the engine's description of an image."""
    (known,) = json.loads(docker("image", "inspect", image).stdout)
    return known


def python(image: str, code: str) -> str:
    """Runs Python code in a container with the hardening of the manifests."""
    return docker("run", "--rm", *HARDENED, "--entrypoint", "python", image, "-c", code).stdout


@pytest.fixture(params=[SIDECAR, WORKER], ids=["sidecar", "worker"], scope="module")
def image(request) -> str:
    """Returns each of the two images."""
    return request.param


def test_nothing_runs_as_root_or_needs_a_shell(image: str):
    """The user is 10001, and the program and the health check start without a shell."""
    config = inspect(image)["Config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] in (["fps-sidecar"], ["hand-counter"])
    assert config["Healthcheck"]["Test"][:3] == ["CMD", "python", "-m"]
    assert config["StopSignal"] == "SIGTERM"


def test_labels_say_what_it_is(image: str):
    """The OCI labels hold the version, the commit and its time, and the licence."""
    labels = inspect(image)["Config"]["Labels"]
    prefix = "org.opencontainers.image."
    assert labels[prefix + "version"] == VERSION
    assert labels[prefix + "licenses"] == "Apache-2.0"
    assert re.fullmatch(r"[0-9a-f]{40}", labels[prefix + "revision"])
    assert re.match(r"20\d\d-\d\d-\d\dT", labels[prefix + "created"])
    assert labels[prefix + "title"]
    assert labels[prefix + "description"]
    assert labels[prefix + "base.name"] == f"docker.io/library/{BASE}"


def test_the_sidecar_is_small():
    """The sidecar's image adds at most 130 MB to its base."""
    assert inspect(SIDECAR)["Size"] - inspect(BASE)["Size"] <= 130e6


def test_nothing_can_be_installed_into_it(image: str):
    """Neither pip nor a compiler is in the image."""
    found = python(
        image,
        "import importlib.util as u, shutil\n"
        "print([m for m in ('pip', 'setuptools', 'ensurepip') if u.find_spec(m)]"
        " + [p for p in ('pip', 'pip3', 'gcc', 'cc', 'c++', 'make') if shutil.which(p)])",
    )
    assert found.strip() == "[]"


def test_it_holds_no_tests_and_no_source_tree(image: str):
    """The image has only the installed packages: no tests, manifests, .git or requirements."""
    found = python(
        image,
        "import pathlib, sidecar\n"
        "site = pathlib.Path(sidecar.__file__).parents[1]\n"
        "print(sorted(p.name for p in site.iterdir() if p.name in {'tests', 'bench', 'ci', 'k8s', 'docs'}),"
        " [str(p) for p in map(pathlib.Path, ('/src', '/dist', '/opt/build')) if p.exists()])",
    )
    assert found.strip() == "[] []"


def test_the_history_holds_no_secret(image: str):
    """The image keeps no build argument of this machine, such as pip's extra source of wheels."""
    history = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image).stdout
    assert "FIND_LINKS" not in history
    assert "INDEX" not in history
    assert not {entry for entry in inspect(image)["Config"]["Env"] if "PIP" in entry or "://" in entry}


def test_modules_are_compiled(image: str):
    """The root is read-only, so modules that aren't compiled at build time would be compiled at every start."""
    found = python(
        image, "import handcounter.pacing.schedule as s, pathlib; print(pathlib.Path(s.__cached__).exists())"
    )
    assert found.strip() == "True"


def test_the_sidecar_has_no_picture_libraries():
    """The sidecar's image has no numpy, OpenCV, LiteRT or torch."""
    code = "import importlib.util as u; print([m for m in ('numpy','cv2','ai_edge_litert','torch') if u.find_spec(m)])"
    assert python(SIDECAR, code).strip() == "[]"


def test_the_worker_finds_hands_without_a_network():
    """The image has the models: a simulated hand is found in a container without a network and with a read-only root."""
    code = (
        "from worker.synthetic.camera import SyntheticCamera\n"
        "from worker.hands.detector import PalmLandmarkDetector\n"
        "from worker.hands.litert_engine import LiteRtEngine\n"
        "from worker.hands.models import find_models\n"
        "from worker.synthetic.spec import SyntheticSpec\n"
        "import os, pathlib\n"
        "models = find_models(pathlib.Path(os.environ['WORKER_MODELS_DIR']))\n"
        "detector = PalmLandmarkDetector(LiteRtEngine(models))\n"
        "camera = SyntheticCamera(SyntheticSpec(seed=1, hands=(1, 1)))\n"
        "print(camera.true_hands(0), len(detector.detect(camera.frame(0))))"
    )
    assert python(WORKER, code).split() == ["1", "1"]


@contextlib.contextmanager
def container(image: str, *words: str) -> Iterator[str]:
    """Runs a container in the background; yields its id."""
    identity = docker("run", "--detach", *HARDENED, image, *words).stdout.strip()
    try:
        yield identity
    finally:
        docker("rm", "--force", identity)


def eventually_says(identity: str, word: str) -> None:
    """Runs the image's own health check until its output has this word; exit code 0 means "healthy"."""
    test = json.loads(docker("inspect", "--format", "{{json .Config.Healthcheck.Test}}", identity).stdout)

    def says_it() -> bool:
        done = docker("exec", identity, *test[1:], check=False)
        return word in ("healthy" if done.returncode == 0 else done.stdout + done.stderr)

    wait_until(says_it, f"the health check of {identity} says {word}")


def test_the_health_check_of_the_sidecar_works():
    """The sidecar's health check passes without Redis, and SIGTERM ends it with exit code 0."""
    with container(SIDECAR) as identity:
        eventually_says(identity, "healthy")
        docker("stop", "--time", "10", identity)
        assert docker("inspect", "--format", "{{.State.ExitCode}}", identity).stdout.strip() == "0"


def test_the_health_check_of_the_worker_works():
    """A worker without Redis fails its health check, which says why."""
    with container(WORKER, "run") as identity:
        eventually_says(identity, '"redis": "')


def test_the_sbom_lists_what_is_in_it(image: str):
    """Each image's SBOM lists the distribution, its dependencies and Debian's packages, in both formats."""
    name = image.replace("/", "-").replace(":", "-")
    cyclone = json.loads((REPOSITORY / f"out/images/{name}.cdx.json").read_text())
    urls = [component.get("purl", "") for component in cyclone["components"]]
    assert f"pkg:pypi/hamer-hand-counter@{VERSION}" in urls
    assert any(url.startswith("pkg:pypi/grpcio@") for url in urls)
    assert any(url.startswith("pkg:deb/debian/") for url in urls)
    spdx = json.loads((REPOSITORY / f"out/images/{name}.spdx.json").read_text())
    assert spdx["spdxVersion"].startswith("SPDX-2")


def test_the_digests_are_those_of_the_images(image: str):
    """The output of the build lists each image with its size and digest."""
    rows = [line.split("\t") for line in (REPOSITORY / "out/images/images.tsv").read_text().splitlines()]
    digests = {row[0]: row[3] for row in rows[1:]}
    assert digests[image] == inspect(image)["Id"]
