# The only commands a newcomer needs. Each installs what it lacks (see scripts/need) and is quick when nothing is missing.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo check test screenshots bench mutants clean-tools

help: ## what there is
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

demo: ## the gateway in front of a simulated provider with faulty keys, and a small load: no account needed
	scripts/need build
	scripts/need dashboard
	cargo run --quiet --locked --profile quick -p keymux --bin keymux -- demo

check: ## format, lints, and the Rust workspace's tests, architecture rules included
	scripts/need build
	scripts/check

test: check ## check, then PostgreSQL, official SDKs, bad input on raw sockets, a real model server, and the page in Chromium
	scripts/need stores
	scripts/stores
	scripts/need e2e
	scripts/e2e

screenshots: ## the dashboard under load and faults, as PNGs in a new folder; then its figures
	scripts/need build
	scripts/need browser
	scripts/dashboard

bench: ## the tables of bench/, measured side by side with nginx and haproxy
	scripts/need build
	bench/run

mutants: ## break the code on purpose, a line at a time: each time a named test must notice
	scripts/need build
	scripts/mutants

clean-tools: ## forget what the commands above installed for themselves (system packages stay)
	rm -rf "$${XDG_CACHE_HOME:-$$HOME/.cache}/keymux" e2e/node/node_modules crates/keymux/dashboard/node_modules
