# Long trials. `make test` runs short versions of them. Included by the Makefile.
.PHONY: fuzz faults soak chaos chaos-full chaos-thinning bench-quick mutants browser

fuzz: $(VENV)/dev ## 1,000,000 random and mutated requests to a sidecar (about 8 minutes; ARGS=--seed=N)
	$(BIN)/python -m fuzz $(ARGS)

faults: $(VENV)/dev ## Redis killed, failing over, ... under 2,000 decisions a second (about 6 minutes)
	$(BIN)/python -m bench.faults $(ARGS)

soak: $(VENV)/dev ## 500 streams for 30 minutes: does memory grow? (ARGS="--scope fleet")
	$(BIN)/python -m bench.soak $(ARGS)

chaos: $(VENV)/dev ## kills, freezes and spoiled data: is every frame settled exactly once? (about 4 minutes; ARGS=--seed=N)
	$(BIN)/python -m chaos $(ARGS)

chaos-full: $(VENV)/dev ## the same with 50 kills over 30 minutes
	$(BIN)/python -m chaos --kills 50 --minutes 30 $(ARGS)

chaos-thinning: $(VENV)/dev ## 200 cameras thinned while the sidecar is killed and limits change: is the count what it is without? (a minute)
	$(BIN)/python -m chaos.thinning $(ARGS)

bench-quick: $(VENV)/dev ## every bench once, shortened: does it still run? (about 3 minutes)
	$(BIN)/python -m bench.quick $(ARGS)

mutants: $(VENV)/mutants/stamp ## does a test notice each small error in the rule? (about 10 minutes; ARGS=FILE for one file)
	PYTHONPATH=tests $(VENV)/mutants/bin/python -m mutation $(ARGS)

browser: $(VENV)/browser ## the console in a real Chromium (apt-get install chromium; about 3 minutes)
	BROWSER=1 $(BIN)/pytest tests/console/browser $(ARGS)

$(VENV)/browser: requirements/browser.txt $(VENV)/dev
	$(BIN)/pip install --quiet --require-hashes -r requirements/browser.txt
	@touch $@

$(VENV)/mutants/stamp: requirements/mutants.txt | $(BIN)/python
	$(BIN)/python -m venv $(VENV)/mutants
	$(VENV)/mutants/bin/pip install --quiet --require-hashes -r requirements/mutants.txt
	@touch $@
