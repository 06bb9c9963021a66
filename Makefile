# SPDX-License-Identifier: Apache-2.0
# The one front door. `make help` lists what can be done; every target installs what it needs.

SHELL := /bin/bash
.DEFAULT_GOAL := help

KERNEL ?= 6.1
SCENARIO ?=
KERNELS ?=
FAULTS ?=
DISKS ?= data:1024
CMD ?=
PART ?=
VMS ?= 2
HOURS ?= 1
SEED ?=
DESTDIR ?=
VERSION ?=

cache := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/elio
export PATH := $(if $(wildcard $(cache)/node/bin/npm),$(cache)/node/bin:)$(PATH)
export ELIO_KERNEL := $(KERNEL)

harness := dist/integration/harness
libraries := node_modules/.package-lock.json

help: ## this list
	@echo 'usage: make TARGET [VARIABLE=value]...'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what building and testing need on this machine
	@integration/harness/setup.sh build test
	@$(MAKE) -s $(libraries)

build: ## compile the API and the TypeScript into dist/, elio-rescue into build/rescue/
	@integration/harness/setup.sh build
	@$(MAKE) -s compile

# A make of its own, because setup can change where Node.js is found.
compile: $(libraries)
	@npm run --silent build
	@$(MAKE) -s -C agent/rescue

$(libraries): package-lock.json
	@echo 'elio: installing npm packages' >&2
	@npm ci --no-audit --no-fund --loglevel=error >&2
	@touch $@

prepare: setup compile

driver: prepare ## build elastio-snap.ko for KERNEL into build/driver/KERNEL/
	@node $(harness)/driver.js $(KERNEL) build/driver/$(KERNEL)

test: prepare ## lint, unit tests, all scenarios but install and reboot-dracut in VMs on KERNEL, the driver's contract on the other kernels
	@node $(harness)/run.js lint unit scenarios smoke

matrix: prepare ## the driver's scenarios on every kernel, or on KERNELS="a b", or SCENARIO=name
	@node dist/integration/matrix.js $(KERNELS) $(SCENARIO:%=--scenario %)

test-long: prepare ## unit tests, the driver's and the longest other scenarios at full length on KERNEL, leaks and failing memory on a debug kernel: hours; goes on where it was interrupted
	@ELIO_LENGTH=long node $(harness)/run.js unit
	@ELIO_LENGTH=long node dist/integration/matrix.js $(KERNEL) $(SCENARIO:%=--scenario %)
	@$(if $(SCENARIO),,ELIO_LENGTH=long node dist/integration/matrix.js 6.1-kasan --scenario driver-cycles --scenario debug-failures)
	@ELIO_LENGTH=long node $(harness)/run.js scenario:agent-fuzz scenario:agent scenario:main-job scenario:reboot scenario:reboot-dracut scenario:install

test-debug: prepare ## the driver's scenarios on kernels that look for errors themselves; goes on where it was interrupted
	@node dist/integration/matrix.js 6.1-kasan 6.1-kcsan $(SCENARIO:%=--scenario %)

debug-kernel: prepare ## build the debug kernels (KASAN and lockdep; KCSAN), half an hour each
	@node $(harness)/driver.js 6.1-kasan build/driver/6.1-kasan
	@node $(harness)/driver.js 6.1-kcsan build/driver/6.1-kcsan

soak: prepare ## the driver's scenarios and agent-fuzz at random for HOURS (1), with SEED
	@node dist/integration/soak.js $(HOURS) $(SEED)

test-selfcheck: prepare ## break the driver's promises one by one: tests must fail each time
	@node dist/integration/selfcheck.js $(FAULTS)

unit: prepare ## the unit tests
	@node $(harness)/run.js unit

vm-test: prepare ## the scenarios in VMs but install and reboot-dracut, or one: SCENARIO=name
	@node $(harness)/run.js $(or $(SCENARIO:%=scenario:%),scenarios)

vm-shell: prepare ## boot a VM with the payload: DISKS="name:MiB[:zero] ..." CMD="command" (without CMD: a shell)
	@node $(harness)/shell.js $(DISKS:%=--disk %) $(if $(CMD),-- '$(CMD)')

lint: prepare ## check proto, TypeScript and C, style and types
	@node $(harness)/run.js lint

format: build ## format proto and TypeScript in place
	@npm run --silent format

proto-baseline: build ## accept the API as it is now as the one that must not break
	@npx buf build proto --exclude-source-info -o proto/baseline.binpb

fleet: prepare ## start VMS=n agents in VMs in the background; prints addresses and certificates as JSON
	@node $(harness)/fleet-control.js start $(VMS)

fleet-stop: build ## end the VMs that `make fleet` started
	@node $(harness)/fleet-control.js stop

demo: prepare ## two VMs: full backup, incremental backup, verification, restore
	@node dist/integration/demo.js

bench: prepare ## speed, as ratios measured in VMs: all parts, or PART="stream-rate restore-rate"
	@node dist/integration/bench.js $(PART)

bench-full: prepare ## all parts, and six loads on three disks in each state of the driver, an hour; goes on where it was interrupted
	@node dist/integration/bench-full.js
	@node dist/integration/bench.js --resume

packages: build ## make Debian packages of module (DKMS), agent, ctl and API in build/packages/
	@agent/packaging/deb/build.sh build/packages $(VERSION)

install: packages ## install the packages on this server; with DESTDIR=directory only unpack them there
	@$(if $(DESTDIR),,integration/harness/setup.sh install)
	@DESTDIR='$(DESTDIR)' agent/packaging/deb/install.sh install

uninstall: ## undo `make install`
	@agent/packaging/deb/install.sh uninstall

clean: ## remove what was built in this checkout (the cache in ~/.cache/elio stays)
	rm -rf build dist proto/gen

.PHONY: help setup build compile prepare driver test matrix test-long test-debug debug-kernel soak test-selfcheck unit vm-test vm-shell lint format proto-baseline \
	fleet fleet-stop demo bench bench-full packages install uninstall clean
