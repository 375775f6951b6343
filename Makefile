# Everything runs in .venv, which each target sets up by itself. Needs Python 3.11-3.13, Java 17 and Maven.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# What we are compared with has pins of its own.
RIVALS := .venv-rivals
RIVAL_SCORERS := .venv-rivals-scoring
# Two cores are the smallest machine we promise figures for; nothing here may start more threads.
export OMP_NUM_THREADS ?= 2
export POLARS_MAX_THREADS ?= 2
export TF_CPP_MIN_LOG_LEVEL ?= 3

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-wheel lint format e2e-kdd99 e2e-kill e2e-drift e2e-swaps bench-retrain-cost bench-retrain-kills bench-poisoning faults soak bench-eos bench-detection bench-kdd99 bench-alert-rate bench-encodings bench-training bench-throughput bench-scoring bench-cpu bench-scale fuzz clean

help:  ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 20

$(READY): pyproject.toml deploy/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c deploy/constraints.txt -e '.[dev]'
	@touch $(READY)

demo: $(READY)  ## train on simulated payments, watch a stream of them live
	$(BIN)/ganwatch demo

test: $(READY)  ## all tests: fast ones, training, a real Kafka, a real Prometheus
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --dist loadfile --durations 20 -m 'not broker'
	$(BIN)/pytest -q -n 2 --dist loadfile --durations 20 -m broker

test-fast: $(READY)  ## the tests without TensorFlow and servers, under a minute
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --dist loadfile -m 'not training and not broker and not deploy'

test-wheel: $(READY)  ## build the wheel, install it into an empty environment, run it
	sh tests/wheel.sh $(BIN)/python

lint: $(READY)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy monitor training

format: $(READY)  ## let ruff format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

e2e-kdd99: $(READY)  ## KDD99 through a real Kafka: every record accounted for, quality, rate, latency, memory
	$(BIN)/python -m tests.benchmarks.e2e_kdd99

e2e-kill: $(READY)  ## kill -9 the daemon a hundred times while it lags, with either delivery: nothing lost
	$(BIN)/python -m tests.faults --rows 1,2

faults: $(READY)  ## the fault table: 22 faults on a real Kafka, each with its figures (SEEDS=3, ROWS=1,2)
	$(BIN)/python -m tests.faults --seeds $(or $(SEEDS),1) --rows "$(ROWS)"

soak: $(READY)  ## five million records through one daemon: memory, descriptors, threads, scrapes
	$(BIN)/python -m tests.faults --rows 19

bench-eos: $(READY)  ## what exactly-once costs against at-least-once, in turns
	$(BIN)/python -m tests.benchmarks.e2e_eos_cost

e2e-drift: $(READY)  ## streams that drift, with and without a resident trainer: alert rate against target, as a plot
	$(BIN)/python -m tests.benchmarks.e2e_drift

e2e-swaps: $(READY)  ## a thousand hot swaps under a steady load
	$(BIN)/python -m tests.benchmarks.e2e_swaps

bench-retrain-cost: $(READY)  ## a retraining after five times as many records costs the same
	$(BIN)/python -m tests.benchmarks.retrain_cost

bench-retrain-kills: $(READY)  ## a retraining killed at fifty random moments: the registry stays whole, the next one goes on
	$(BIN)/python -m tests.benchmarks.retrain_kills

bench-poisoning: $(READY)  ## slow poisoning of twenty retrainings, with the gate's anchor and without
	$(BIN)/python -m tests.benchmarks.poisoning

bench-detection: $(READY)  ## detection quality beside baselines, resumable; QUICK=1: the fast parts, few seeds, computed anew
	$(BIN)/python -m tests.benchmarks.detection $(if $(QUICK),--quick)

bench-kdd99: $(READY)  ## EfficientGAN on KDD99, the authors' protocol, beside baselines (PRESET=paper, SEEDS=3)
	$(BIN)/python -m tests.benchmarks.detection --parts $(if $(filter paper,$(PRESET)),paper,kdd99) --seeds $(or $(SEEDS),3)

bench-alert-rate: $(READY)  ## share of normal records that each threshold method flags, against its target
	$(BIN)/python -m tests.benchmarks.alert_rate

bench-encodings: $(READY)  ## CPU of decoding a record: JSON, packed float32, Avro, Protobuf
	$(BIN)/python -m tests.benchmarks.encodings

bench-training: $(READY)  ## training speed against the naive loop
	$(BIN)/python -m tests.benchmarks.training_speed

$(RIVALS)/.ready: tests/benchmarks/rivals/requirements.txt
	$(PYTHON) -m venv $(RIVALS)
	$(RIVALS)/bin/pip install --quiet --disable-pip-version-check -r tests/benchmarks/rivals/requirements.txt
	@touch $@

bench-throughput: $(READY) $(RIVALS)/.ready  ## records a second against a bare poll loop, Quix Streams, Bytewax, a loop by hand
	RIVALS_PYTHON=$(RIVALS)/bin/python $(BIN)/python -m tests.benchmarks.throughput --repetitions $(or $(REPETITIONS),5)

$(RIVAL_SCORERS)/.ready: tests/benchmarks/rivals/requirements-scoring.txt
	$(PYTHON) -m venv $(RIVAL_SCORERS)
	$(RIVAL_SCORERS)/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

bench-scoring: $(READY) $(RIVAL_SCORERS)/.ready  ## our scorer against keras.predict, tf.function, PyOD's ALAD, River (torch: 6 GB)
	RIVALS_PYTHON=$(RIVAL_SCORERS)/bin/python $(BIN)/python -m tests.benchmarks.scoring

bench-cpu: $(READY)  ## CPU of a record, split by stage
	$(BIN)/python -m tests.benchmarks.cpu_profile

bench-scale: $(READY)  ## rate against replicas, features, micro-batch, record size, alerts: a picture
	$(BIN)/python -m tests.benchmarks.scale

fuzz: $(READY)  ## bytes of others against every reader of ours, guided by coverage (RUNS of the decoder, SECONDS of each other)
	$(BIN)/python -m tests.fuzz --runs $(or $(RUNS),1000000) --seconds $(or $(SECONDS),60)

clean:  ## remove what was built
	rm -rf $(VENV) $(RIVALS) $(RIVAL_SCORERS) .cache build dist *.egg-info
