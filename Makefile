# make train   a network trained on real faces and verified on people it never saw
# make test    the tests, in the same environment
# make test-quick   those that take less than a second or two each and install nothing
# make test-hostile   every hostile and broken file against its reader: a quarter of an hour; make test takes a part
# make lint    ruff, mypy and import-linter (Python 3.11 or newer)
# All need Python 3.8 to 3.12 and pip, nothing else; choose the interpreter with PYTHON=python3.12.

PYTHON ?= python3
VENV ?= .venv
NETWORK ?= r18
LOSS_TYPE ?= 4
EPOCHS ?= 25
SEED ?= 1
ARGS ?=

BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

.PHONY: train test test-quick test-hostile lint clean

train: $(INSTALLED)
	$(BIN)/python datasets/demo.py --folder demo --network $(NETWORK) --loss-type $(LOSS_TYPE) --epochs $(EPOCHS) --seed $(SEED) $(ARGS)

test: $(INSTALLED)
	$(BIN)/python -m pytest -q -n auto $(ARGS)

test-quick: $(INSTALLED)
	$(BIN)/python -m pytest -q -n auto -m 'not slow and not network' $(ARGS)

test-hostile: $(INSTALLED)
	$(BIN)/python -m pytest -q -n auto -m hostile $(ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tools/link_tree.py
	MYPYPATH=build/tree $(BIN)/mypy -p insightface_mx
	PYTHONPATH=build/tree $(BIN)/lint-imports

$(INSTALLED): setup.py pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 8) <= v <= (3, 13) else "Python 3.8 to 3.12 is needed, this is %d.%d: make PYTHON=python3.11" % v)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --upgrade 'pip>=23'
	$(BIN)/python -m pip install -c constraints.txt -e '.[cpu,demo,dev]'
	$(BIN)/python -m pip install --no-deps --ignore-requires-python mtcnn==1.0.0 # its metadata requires Python 3.10, but only its weights are read
	$(BIN)/python -m pip check
	touch $@

clean:
	rm -rf $(VENV) demo build *.egg-info
