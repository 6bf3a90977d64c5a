# The long trials of the sidecar: not part of `make test`, which has short versions of them. To be included by Makefile.
.PHONY: fuzz faults soak

fuzz: $(VENV)/dev ## 1,000,000 random and mutated requests to a sidecar (about 10 minutes; ARGS=--seed=N)
	PYTHONPATH=.:proto $(BIN)/python -m fuzz $(ARGS)

faults: $(VENV)/dev ## Redis killed, stopped, slow, ... under 2,000 decisions a second (about 4 minutes)
	PYTHONPATH=.:proto $(BIN)/python -m bench.faults $(ARGS)

soak: $(VENV)/dev ## 500 streams for 30 minutes: does memory grow?
	PYTHONPATH=.:proto $(BIN)/python -m bench.soak $(ARGS)
