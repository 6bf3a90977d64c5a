"""Runs rendered manifests on a local Docker engine, in the order and with the probes of a kubelet.

Pods get addresses of their own on a bridge, Services their names, containers the security context, limits, volumes and
environment that the manifest gives them. Nothing of the manifest is restated, and a field that this runner does not
know is an error: what runs here is what a cluster would run, or it does not run. Needs root and an engine
(ci/engine.sh, ci/base.sh).
"""
