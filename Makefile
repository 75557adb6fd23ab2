# authlua: the commands of a checkout. What they make stays in .venv, .cache and run, all unknown to git.

.DEFAULT_GOAL := help
.PHONY: help run test test-2.4 compiled differential conformance reloads mutants check bench guard lock setup clients clean

COMPILED_TESTS = tests/protocol tests/auth tests/sasl/test_promises.py tests/passwords tests/lua \
	tests/server tests/databases tests/test_logs.py
PYTEST = .venv/bin/pytest --numprocesses=$(PROCESSES) --no-loadscope-reorder
PROCESSES = 3
BENCH_SECONDS = 1
BENCH_ROUNDS = 5
SESSIONS = 20000
SECONDS = 3600
SEED = 1

help: ## say what there is to make
	@sed -n 's/^\([a-z0-9.-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

run: setup ## serve the example users of conf/users.passwd under ./run; Ctrl-C ends it
	@echo "To try it, in a second terminal: .venv/bin/authlua test-auth --socket run/auth-client alice wonderland"
	@exec .venv/bin/authlua serve --script conf/example.lua

test: setup clients ## run all tests, with the real mail programs where root can install them, in PROCESSES=3
	$(PYTEST)

test-2.4: setup ## fetch Debian 13's Dovecot 2.4 into .cache (root), and run the tests that ask it
	@command -v debootstrap >/dev/null || [ "$$(id -u)" != 0 ] || apt-get -q -y install --no-install-recommends debootstrap
	tests/reference/bootstrap-2.4
	.venv/bin/pytest -m dovecot24

compiled: setup ## compile the hot path into .cache/compiled, and run the tests of what is compiled
	requirements/compile
	$(PYTEST) -o "pythonpath=.cache/compiled ." $(COMPILED_TESTS)

differential: setup ## ask a real Dovecot and authlua the same about every kind of chain
	AUTHLUA_DIFFERENTIAL=all .venv/bin/pytest tests/differential tests/passwords/test_dovecot.py

conformance: setup clients ## generated sessions for Dovecot and authlua: SESSIONS=20000 of each, at most SECONDS=3600, SEED=1
	.venv/bin/python -m tests.conformance.run --sessions $(SESSIONS) --seconds $(SECONDS) --seed $(SEED)

reloads: setup ## reload a server 200 times while clients log in; none may fail
	AUTHLUA_RELOADS=200 .venv/bin/pytest tests/server/test_runaways.py -k reloads

mutants: setup ## spoil authlua in many small ways; the conformance kit has to notice each
	.venv/bin/python -m tests.conformance.mutants

check: setup ## all that has to pass before a commit: format, lint, types, tests
	.ci/check

bench: setup ## measure against the installed Dovecot and renew docs/performance.md; ROWS="throughput half" for a part
	.venv/bin/python -m bench --seconds $(BENCH_SECONDS) --rounds $(BENCH_ROUNDS) $(ROWS)

guard: setup ## count the instructions of a login, and fail when there are many more than bench/guard.json says
	.venv/bin/python -m bench.guard

lock: ## renew requirements/dev.txt from pyproject.toml
	requirements/lock

setup: # .venv with what requirements/dev.txt pins
	@requirements/install

clients: # Dovecot, Postfix and Exim for the tests; who is not root is told at the end of the tests what was skipped
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then tests/e2e/install-clients; fi

clean: ## forget everything that was made
	rm -rf .venv .cache run .mypy_cache .pytest_cache .ruff_cache .hypothesis
