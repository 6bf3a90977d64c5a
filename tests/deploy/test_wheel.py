"""The distribution: what `pip install hamer-hand-counter` installs."""

import email
import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.deploy import SHIPPING, run
from support.files import files
from support.processes.programs import REPOSITORY

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(not SHIPPING, reason="builds and installs in fresh environments; `make ship` runs it"),
]

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def distributions(tmp_path_factory) -> dict[str, Path]:
    """Builds the sdist, and the wheel from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", str(folder), str(REPOSITORY))
    return {"sdist": next(folder.glob("*.tar.gz")), "wheel": next(folder.glob("*.whl"))}


@pytest.fixture(scope="module")
def wheel(distributions) -> Iterator[zipfile.ZipFile]:
    """Opens the wheel."""
    with zipfile.ZipFile(distributions["wheel"]) as opened:
        yield opened


def install(distributions: dict[str, Path], folder: Path, extra: str = "") -> Path:
    """Installs the wheel with an extra into a new environment; returns its bin folder.

    The wheel names its dependencies; the lock sets their versions, so that a new release doesn't break the test.
    """
    constraints = re.sub(r"\s*\\\n\s+--hash=\S+", "", (REPOSITORY / "requirements/run.txt").read_text())
    (folder / "constraints.txt").write_text(constraints)
    venv.create(folder / "venv", with_pip=True)
    programs = folder / "venv/bin"
    wheel = f"{distributions['wheel']}{extra}"
    run(str(programs / "pip"), "install", "--quiet", "-c", str(folder / "constraints.txt"), wheel)
    return programs


@pytest.fixture(scope="module")
def light(distributions, tmp_path_factory) -> Path:
    """Returns the bin folder of an environment with only the wheel, without an extra."""
    return install(distributions, tmp_path_factory.mktemp("light"))


@pytest.fixture(scope="module")
def environment(distributions, tmp_path_factory) -> Path:
    """Returns the bin folder of an environment with only the wheel and its extra for the demo."""
    return install(distributions, tmp_path_factory.mktemp("installed"), "[demo]")


def test_the_index_would_take_it(distributions):
    """Twine accepts the metadata and the README."""
    run(sys.executable, "-m", "twine", "check", "--strict", *map(str, distributions.values()))


def test_only_the_packages_are_inside(wheel):
    """The wheel has only our packages: no tests, no benches, and no name of another distribution's package."""
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    information = {top for top in tops if top.endswith(".dist-info")}
    packages = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert tops - information == {Path(package).name for package in packages["packages"]}
    assert "proto" not in tops, "that is proto-plus's"
    assert not [name for name in wheel.namelist() if re.search(r"(^|/)(tests?|conftest\.py|test_\w+\.py)(/|$)", name)]
    assert not [name for name in wheel.namelist() if name.endswith((".tflite", ".ckpt", ".pkl", ".jpg"))]


def test_types_come_with_it(wheel):
    """Each package has its py.typed, and the generated code its stubs."""
    names = set(wheel.namelist())
    tops = {name.partition("/")[0] for name in names if ".dist-info" not in name}
    assert {f"{top}/py.typed" for top in tops} <= names
    assert "handcounter/ratelimit/v1/rate_limit_pb2.pyi" in names
    assert "handcounter/ratelimit/v1/rate_limit_pb2_grpc.pyi" in names


def test_data_files_come_with_it(wheel):
    """Lua scripts and JSON schemas, which the code reads at run time, are in the wheel."""
    data = files("console/**/*.lua", "sidecar/**/*.lua", "worker/**/*.lua", "worker/**/*.json")
    assert {str(path.relative_to(REPOSITORY)) for path in data} <= set(wheel.namelist())


def test_the_metadata_is_complete(wheel):
    """The metadata has the version, the licence with its text, the Python versions and the extras."""
    (path,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = email.message_from_bytes(wheel.read(path))
    assert metadata["Version"] == PROJECT["version"]
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == PROJECT["requires-python"]
    assert set(PROJECT["optional-dependencies"]) == set(metadata.get_all("Provides-Extra"))
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())


def test_the_sdist_builds_the_same_packages(distributions):
    """The sdist has all sources of the wheel, including the contract."""
    with tarfile.open(distributions["sdist"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "LICENSE", "proto/handcounter/ratelimit/v1/rate_limit.proto"} <= names
    assert not {name for name in names if name.startswith((".venv", "out/", ".ci"))} - {".ci/run", ".ci"}


def test_the_client_brings_grpc_and_protobuf_alone(light: Path):
    """Without an extra nothing is installed but the wheel, these two and what they require, and it is small."""
    listed = json.loads(run(str(light / "pip"), "list", "--format=json").stdout)
    names = {each["name"].lower().replace("_", "-") for each in listed}
    assert names - {"pip", "setuptools"} == {"hamer-hand-counter", "grpcio", "protobuf", "typing-extensions"}
    (site,) = (light.parent / "lib").glob("python3*/site-packages")
    folders = [path for path in site.iterdir() if path.name.partition("-")[0] not in ("pip", "setuptools")]
    size = sum(each.stat().st_size for folder in folders for each in (folder, *folder.rglob("*")) if each.is_file())
    assert 10e6 < size < 40e6, f"{size / 1e6:.0f} MB"


CLIENT = """\
import console, process, sidecar, sys, worker  # the user's own modules

from handcounter.client import RateLimiter, Reason
from handcounter.client.testing import FakeSidecar

assert (console.OWNER, process.OWNER, sidecar.OWNER, worker.OWNER) == ("the user",) * 4
with (
    FakeSidecar(fps={"cam": 2.0}, leases=True) as fake,
    RateLimiter(fake.address, default_fps=0.0, deadline=60.0) as limiter,
):
    frames = [("cam", 0.0), ("cam", 0.4), ("cam", 0.5)]
    assert [limiter.decide([frame])[0] for frame in frames] == [Reason.ADMITTED, Reason.TOO_SOON, Reason.ADMITTED]
    assert fake.requests == [[frames[0]], [frames[2]]]
print(*(name for name in sys.modules if name.partition(".")[0] in ("console", "handcounter", "process", "sidecar", "worker")))
"""


def test_the_client_works_beside_modules_of_the_same_names(light: Path, tmp_path: Path):
    """A user's own worker.py, process.py and sidecar.py stay the user's, because the client imports none of ours."""
    for name in ("console", "process", "sidecar", "worker"):
        (tmp_path / f"{name}.py").write_text("OWNER = 'the user'\n")
    (tmp_path / "use_the_client.py").write_text(CLIENT)
    imported = set(run(str(light / "python"), "use_the_client.py", cwd=tmp_path).stdout.split())
    assert {"handcounter.client", "handcounter.client.testing"} <= imported
    assert {name for name in imported if not name.startswith("handcounter")} == {
        "console",
        "process",
        "sidecar",
        "worker",
    }


@pytest.mark.parametrize(
    ("program", "extra"), [("fps-sidecar", "sidecar"), ("hand-counter", "worker"), ("fpsctl", "ctl")]
)
@pytest.mark.parametrize("arguments", [[], ["--help"]], ids=["plain", "help"])
def test_a_program_names_its_extra(light: Path, tmp_path: Path, program: str, extra: str, arguments: list[str]):
    """Without its extra a program says in one line what to install, and ends with exit code 1."""
    ended = run(str(light / program), *arguments, check=False, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"{program}: ")
    assert line.endswith(f"run: pip install 'hamer-hand-counter[{extra}]'")


def test_the_programs_run_from_an_empty_environment(environment: Path, tmp_path: Path):
    """Every entry point starts in an environment with only the wheel and its dependencies, and knows its version."""
    outside = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    for name in PROJECT["scripts"]:
        said = run(str(environment / name), "--version", cwd=tmp_path, env=outside).stdout
        assert said.split() == [name, PROJECT["version"]]
        run(str(environment / name), "--help", cwd=tmp_path, env=outside)


def test_it_lives_beside_proto_plus(environment: Path, tmp_path: Path):
    """The import name `proto` belongs to proto-plus, also if both are installed."""
    run(str(environment / "pip"), "install", "--quiet", "--no-deps", "proto-plus")
    code = "import proto, handcounter.ratelimit.v1.rate_limit_pb2 as ours; print(proto.Message, ours.Reason.Name(1))"
    assert "REASON_ADMITTED" in run(str(environment / "python"), "-c", code, cwd=tmp_path).stdout


def test_the_demo_runs_from_there(environment: Path, tmp_path: Path):
    """`hand-counter demo`, installed from the wheel and started in an empty folder, succeeds."""
    outside = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)} | {
        name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))
    }
    demo = [environment / "hand-counter", "demo", "--phase-seconds", "4"]
    done = subprocess.run(demo, cwd=tmp_path, env=outside, capture_output=True, text=True, timeout=300)
    if done.returncode == 1 and "this machine is too slow or too busy" in done.stderr:
        pytest.skip("it ran, but the machine was too busy to judge the rates; use `make demo` for that")
    assert done.returncode == 0, done.stdout + done.stderr
