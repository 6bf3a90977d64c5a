"""Runs a rendered overlay on a local Docker engine until Ctrl-C, or for some seconds, and reports how everything ended.

It starts, probes and stops containers in the order and by the rules of a kubelet, as we read them. Pods get addresses of
their own on a bridge, Services get their names, and containers get the security context, limits, volumes and environment
from the manifest. The manifest is the only source, and a field that this runner doesn't know is an error. A pass certifies
our reading of a kubelet, not a cluster: the scheduler, admission, CNI and cgroup manager of a real one aren't
involved. Needs root and an engine (ci/engine.sh, ci/base.sh).

Examples:
  kubectl kustomize k8s/overlays/dev > dev.yaml
  PYTHONPATH=tests/deploy python -m podrun dev.yaml               until Ctrl-C
  PYTHONPATH=tests/deploy python -m podrun dev.yaml --hold 30     for 30 seconds after all pods are ready
"""

import argparse
import contextlib
import sys
import threading

from podrun.cluster import Cluster, NotReadyError, load
from podrun.engine import EngineError
from podrun.reading import ManifestError


def main() -> int:
    """Returns 0 if all pods became ready and ended well, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rendered")
    parser.add_argument("--hold", type=float, metavar="SECONDS")
    parser.add_argument(
        "--timeout", type=float, default=90.0, metavar="SECONDS", help="seconds until all pods must be ready"
    )
    arguments = parser.parse_args()
    try:
        with Cluster(load(arguments.rendered), tell) as cluster:
            cluster.wait_ready(arguments.timeout)
            tell("all pods are ready: " + ", ".join(f"{name} {pod.address}" for name, pod in cluster.pods.items()))
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait(arguments.hold)
            cluster.stop()
            ends = [running.exits[-1][0] for pod in cluster.pods.values() for running in pod.containers.values()]
    except (NotReadyError, ManifestError, EngineError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0 if not any(ends) else 1


def tell(line: str) -> None:
    """Prints an event as it happens."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
