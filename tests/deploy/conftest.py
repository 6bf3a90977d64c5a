"""The documents of the overlays."""

import pytest
from support.deploy import (
    K8S,
    OVERLAYS,
    POD_OVERLAYS,
    render,
)


@pytest.fixture(params=POD_OVERLAYS, scope="module")
def overlay(request):
    """Returns the documents of each overlay with one Deployment or StatefulSet of workers."""
    return render(K8S / "overlays" / request.param)


@pytest.fixture(params=OVERLAYS, scope="module")
def documents(request):
    """Returns the documents of each overlay."""
    return render(K8S / "overlays" / request.param)
