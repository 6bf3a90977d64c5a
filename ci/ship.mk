# Images, manifests, the wheel: everything that is shipped. Included by the Makefile, whose variables it uses.
.PHONY: ship images dashboard

ship: $(VENV)/dev ## build the images, run them as pods, validate everything that ships (root; ARGS=... go to pytest)
	ci/ship.sh $(BIN) $(ARGS)

images: ## build both images with the engine of DOCKER_HOST; sizes, digests and SBOMs go to out/images (TORCH=cpu|cuda)
	ci/tools.sh $(VENV)/ship
	PATH=$(CURDIR)/$(VENV)/ship/bin:$$PATH TORCH=$(TORCH) ci/images.sh
TORCH ?= none

dashboard: ## regenerate the Grafana dashboard
	$(PYTHON) ci/dashboard.py > k8s/components/monitoring/dashboard.json
