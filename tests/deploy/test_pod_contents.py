"""What the pods may use and what runs in them: resources, permissions, images."""

import re
import shutil
import tomllib

from podrun.reading import quantity
from support.deploy import (
    K8S,
    compose_services,
    containers,
    deployments,
    pod_template,
    read_document,
    render,
)
from support.processes.programs import REPOSITORY

VERSION = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
VOLUMES = {"configMap", "emptyDir", "persistentVolumeClaim", "projected"}
"""Of those that the restricted standard allows, the ones that pods have here: nothing of the node."""


def test_every_container_is_limited(documents):
    """Each container requests and limits CPU and memory, and requests no more than its limit."""
    for document in deployments(documents):
        for container in containers(document["spec"]["template"]):
            requests, limits = container["resources"]["requests"], container["resources"]["limits"]
            for name in ("cpu", "memory"):
                assert quantity(requests[name]) <= quantity(limits[name])


def test_pods_are_restricted(documents):
    """The pods meet the restricted Pod Security Standard, which their namespace enforces, and more."""
    namespaces = [d["metadata"] for d in documents if d["kind"] == "Namespace"]
    for namespace in namespaces:
        assert namespace["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for document in deployments(documents):
        assert document["metadata"]["namespace"] in {"hand-counter", *(n["name"] for n in namespaces)}
        spec = document["spec"]["template"]["spec"]
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["runAsUser"] > 10000
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        for volume in spec.get("volumes", []):
            assert volume.get("persistentVolumeClaim", {"readOnly": True})["readOnly"]
            assert volume.keys() & VOLUMES
        for container in containers(document["spec"]["template"]):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_production_has_a_gpu_and_development_has_none():
    """The worker gets one GPU in the overlay gpu, and none in dev."""
    for name, wanted in (("gpu", 1), ("dev", None)):
        (worker,) = pod_template(render(K8S / "overlays" / name))["spec"]["containers"]
        assert worker["resources"]["limits"].get("nvidia.com/gpu") == wanted


def test_no_secret_is_in_the_repository():
    """Only the overlay dev generates Secrets, and they hold no password."""
    assert not [d for d in render(K8S / "overlays/gpu") if d["kind"] == "Secret"]
    secrets = read_document(K8S / "overlays/dev/kustomization.yaml")["secretGenerator"]
    assert len(secrets) == 3
    for secret in secrets:
        (literal,) = secret["literals"]
        assert re.fullmatch(r"url=redis://[a-z-]+@valkey:6379/0", literal)


def images(documents) -> list[str]:
    """Returns the images of an overlay and of the compose file."""
    compose = compose_services().values()
    templates = [d["spec"]["template"] for d in deployments(documents)]
    found = [container["image"] for template in templates for container in containers(template)]
    return found + [service["image"] for service in compose]


def test_images_are_those_of_this_version(documents):
    """The manifests and the compose file use the images of the version in pyproject.toml."""
    ours = [image for image in images(documents) if "/hand-counter/" in image]
    assert len(ours) >= 4
    assert {image.rpartition(":")[2].removesuffix("-cuda") for image in ours} == {VERSION}


def test_images_name_their_registry(documents):
    """No image is looked for at whatever registry the node's runtime searches first."""
    for image in images(documents):
        registry = image.partition("/")[0]
        assert "." in registry or registry == "localhost", image


def test_a_digest_can_replace_the_tag(tmp_path):
    """With `digest` in place of `newTag` the pods run exactly that image."""
    digest = "sha256:" + "0" * 64
    shutil.copytree(K8S, tmp_path / "k8s")
    path = tmp_path / "k8s/overlays/gpu/kustomization.yaml"
    path.write_text(re.sub(r"newTag: [\w.-]+", f"digest: {digest}", path.read_text()))
    assert {c["image"].partition("@")[2] for c in containers(pod_template(render(path.parent)))} == {digest}
