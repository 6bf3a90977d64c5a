# The long trials of the sidecar: not part of `make test`, which has short versions of them. To be included by Makefile.
.PHONY: fuzz faults soak bench-quick

fuzz: $(VENV)/dev ## 1,000,000 random and mutated requests to a sidecar (about 8 minutes; ARGS=--seed=N)
	$(BIN)/python -m fuzz $(ARGS)

faults: $(VENV)/dev ## Redis killed, failing over, ... under 2,000 decisions a second (about 6 minutes)
	$(BIN)/python -m bench.faults $(ARGS)

soak: $(VENV)/dev ## 500 streams for 30 minutes: does memory grow? (ARGS="--scope fleet")
	$(BIN)/python -m bench.soak $(ARGS)

bench-quick: $(VENV)/dev ## every bench once in its quickest way: does it still run? (about 3 minutes)
	$(BIN)/python -m bench.quick $(ARGS)
