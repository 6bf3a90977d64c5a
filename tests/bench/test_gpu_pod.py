"""The model of a pod with a GPU, and the manifest that follows from it."""

from dataclasses import replace

import pytest
import yaml
from support.deploy import K8S, containers, pod_template, render

pytest.importorskip("torch")

from bench.gpu_pod import DECODE_MS, RULES_MS, Pod, pod_of, settings, simulate

SECONDS = 2.0
FAST = Pod(crop_ms=0.001, detect_ms=0.001, cores=16, processes=1, hands=0)


def test_the_gpu_is_the_limit_with_many_processors() -> None:
    """The frames a second are those of its batches, between full ones and small ones."""
    pod = Pod(crop_ms=1.0, detect_ms=0.5, cores=16, processes=2, hands=4)
    found = simulate(pod, SECONDS)
    assert found.limit == "GPU"
    assert found.gpu > 0.95
    assert 0.8 / 4.5 < found.fps / 1e3 < 1 / 4.5
    assert found.crops_per_batch > 48


def test_the_interpreter_lock_is_the_limit_of_one_process() -> None:
    """With a fast GPU a process counts as many frames as its lock allows, and two count nearly twice as many."""
    one, two = (simulate(replace(FAST, processes=number), SECONDS) for number in (1, 2))
    assert one.limit == "interpreter lock"
    assert one.lock > 0.95
    assert one.fps < 1e3 / RULES_MS
    assert two.fps > 1.7 * one.fps


def test_the_processors_are_the_limit_if_there_are_few() -> None:
    """One of them decodes and computes in turns."""
    found = simulate(replace(FAST, cores=1), SECONDS)
    assert found.limit == "processors"
    assert found.cpu > 0.99
    assert found.fps < 1e3 / (DECODE_MS + RULES_MS)


def test_more_of_anything_never_hurts_much() -> None:
    """Within what batches of other sizes change."""
    small = simulate(pod_of("H100", cores=2, processes=1, hands=2), SECONDS).fps
    large = simulate(pod_of("H100", cores=16, processes=2, hands=2), SECONDS).fps
    assert large > 1.5 * small


def test_the_manifest_has_what_the_model_says() -> None:
    """Threads, processors and memory of k8s/components/gpu are those that `python -m bench.gpu_pod` prints for an H100."""
    fit = settings()
    (worker,) = containers({"spec": {**pod_template(render(K8S / "overlays/gpu"))["spec"], "initContainers": []}})
    resources = worker["resources"]
    assert resources["requests"] == {"cpu": str(fit.processors), "memory": f"{fit.memory_gib}Gi"}
    assert resources["limits"]["memory"] == f"{fit.memory_limit_gib}Gi"
    assert resources["limits"]["cpu"] == str(fit.processors)
    component = yaml.safe_load((K8S / "components/gpu/kustomization.yaml").read_text())
    literals = component["configMapGenerator"][0]["literals"]
    assert {f"WORKER_THREADS={fit.processors}", "WORKER_PROCESSES=2"} <= set(literals)
