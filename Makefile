# SPDX-License-Identifier: GPL-3.0-or-later
# The commands that matter: `make demo`, `make unit` and `make test`. Everything that they make lies in
# .work/.
PLATFORM ?= mariadb
IMAGE ?=
ARGS ?=
VERSION ?=

.PHONY: help demo demo-down unit setup test test-long bench lint build docs release clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## one host from bare to a synced row (PLATFORM=mariadb|mysql|el9, or IMAGE=reference of a systemd image)
	@molecule/demo/run "$(PLATFORM)" "$(IMAGE)"

demo-down: ## remove the demo's hosts
	@molecule/demo/down

# With 2,000 of the 3,000 random declarations that `make test` compares.
unit: ## the tests that need no server and no root, in a minute
	@tests/setup unit
	@GEARSYNC_TEST_FILES=$${GEARSYNC_TEST_FILES:-200} .work/venv/bin/python tests/run unit

setup: ## what the tests need on this machine
	@tests/setup test
	@molecule/hosts/prepare

test: setup ## everything that continuous integration runs
	@tests/run

test-long: setup ## what takes hours: fuzzing, compilers, faults, hundreds of kills, ten runs under load
	@tests/setup long
	@tests/run --file tests/steps-long.toml --jobs 1

bench: ## figures beside the peers, into docs/performance.md and README.md; an hour, alone on the machine (ARGS="--maxwell CLONE", --help has all)
	@tests/setup bench
	@.work/venv/bin/python bench/performance.py --command 'make bench$(if $(ARGS), ARGS="$(ARGS)")' $(ARGS)

lint: setup ## only the linters
	@tests/run lint

build: ## the collection's archive, in .work/
	@tests/setup test
	@.work/venv/bin/python tests/build .work

docs: ## the documentation as a site, in .work/docs/html
	@tests/setup test
	@.work/venv/bin/python tests/docs

release: ## VERSION=x.y.z: a commit with version and changelog, archive and checksums in .work/release, and the tag to set
	@tests/setup test
	@.work/venv/bin/python tests/release "$(VERSION)"

clean: ## remove everything that these commands made, but not the packages they installed
	@molecule/hosts/clean
	rm -rf .work
