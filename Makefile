# Copyright: (c) 2026, keyfleet.hsm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Thin targets: what they do is in tools/.

LINTS = ruff mypy shellcheck yamllint workflows reuse changelog docs ansible-lint

# Test hosts: how many, of which releases, how many more without a way out. ALL=1 makes hosts-down delete the images, too.
N = 3
DEBIAN = bookworm
OFFLINE = 0

.PHONY: help demo demo-clean quick test lint docs-lint sanity matrix build quickstart unit fleet molecule hosts-up hosts-down bench faults providers real-kms gateway alerts clean

help:
	@echo "make demo        the quickstart with SoftHSM2 in .demo (make demo-clean deletes that folder)"
	@echo "make bench       how fast many keys go, in about ten minutes (BENCH_ARGS=--full adds the longest loop, --sync is hsm_sync, --peer beside OpenTofu)"
	@echo "make quick       lint, types, the tests with plain values, every module once on a real token; under three minutes"
	@echo "make test        all of these: lint, build, quickstart, unit; beside them sanity, and molecule and fleet (root)"
	@echo "make lint        $(LINTS)"
	@echo "make docs-lint   changelog docs"
	@echo "make sanity      ansible-test sanity, with the ansible-core of .venv-dev and with the newest that a Python here takes"
	@echo "make matrix      sanity and tests/unit on each ansible-core and Python (MATRIX_CORE=2.18 MATRIX_PYTHON=3.11 for one)"
	@echo "make build       the archive in .build/dist, installed and read once"
	@echo "make quickstart  the quickstart twice, the second time without a change"
	@echo "make unit        pytest"
	@echo "make fleet       the tests on hosts of their own (root)"
	@echo "make molecule    the roles, each on bare hosts of its own (root)"
	@echo "make hosts-up    Debian hosts with systemd and SSH (root): N=3 DEBIAN=bookworm,trixie OFFLINE=1"
	@echo "make hosts-down  deletes them, with ALL=1 their images, too"
	@echo "make faults      every PKCS#11 call of every module failed once, in an hour or two (FAULTS_ARGS='--every 8' in a quarter of it)"
	@echo "make providers   one play on every PKCS#11 provider of Debian 12 (root, PROVIDERS_ARGS='--only NSS' for one)"
	@echo "make real-kms    the Eviden server itself on our files and keys (KEYFLEET_KMS_SERVER names its binary)"
	@echo "make gateway     open gateways, their clients and load balancer, with faults and under load (root, GATEWAY_ARGS=tests/gateway/FILE for one)"
	@echo "make alerts      Prometheus' promtool reads the alerting rules and plays each of them (PROMTOOL names it)"
	@echo "make clean       deletes what these targets made"

demo:
	tools/demo.sh

demo-clean:
	rm -rf .demo

quick:
	tools/run.sh $(filter-out docs ansible-lint,$(LINTS)) quick

test:
	tools/run.sh --beside molecule --beside fleet --beside ansible-lint,quickstart,sanity $(filter-out ansible-lint,$(LINTS)) package unit

lint:
	tools/run.sh $(LINTS)

docs-lint:
	tools/run.sh changelog docs

sanity:
	tools/run.sh sanity

matrix:
	tools/run.sh matrix

build:
	tools/run.sh package

quickstart:
	tools/run.sh quickstart

unit:
	tools/run.sh unit

fleet:
	tools/run.sh fleet

molecule:
	tools/run.sh molecule

hosts-up:
	tools/hosts.sh up --hosts "$(N)" --debian "$(DEBIAN)" --offline "$(OFFLINE)"

hosts-down:
	tools/hosts.sh down $(if $(filter 1,$(ALL)),--images)

bench:
	tools/run.sh bench

faults:
	tools/run.sh faults

providers:
	tools/run.sh providers

real-kms:
	tools/run.sh real-kms

gateway:
	tools/run.sh gateway

alerts:
	tools/run.sh alerts

clean:
	tools/hosts.sh clean
	rm -rf .build .demo .venv .venv-dev
