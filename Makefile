.DEFAULT_GOAL := help
.PHONY: help setup build lambda install deb demo test test-deb test-lambda lint check soak bench bench-queue bench-lambda fuzz schemathesis clean

help: ## Say what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: ## Install what is missing: a browser, fonts, npm packages
	@scripts/setup

build: setup ## Build the program: target/release/lastframe
	cargo build --release --locked -p lastframe

lambda: ## Build the functions for AWS: target/lambda/lastframe-ARCH.zip; ARCH=arm64 (the usual) or x86_64
	@scripts/lambda $(or $(ARCH),arm64)

install: ## Put what was built under PREFIX (/usr/local), in DESTDIR: program, manual, completions, systemd unit
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" packaging/install

deb: build ## Build a Debian package: target/lastframe_VERSION_ARCH.deb
	@packaging/deb

demo: build ## Render a video from token to file: out/demo.mp4
	@scripts/demo

lint: setup ## Formatting, lints, documentation, types, licences
	@scripts/lint

test: setup ## Everything that must hold, with a real browser
	@scripts/setup tests
	@scripts/test

test-deb: build ## Install, upgrade, remove and purge the package on a clean Debian; as root
	@packaging/test-deb

test-lambda: setup ## Deploy the project, render and delete it again, with npm, against a stand-in of AWS
	@scripts/setup tests
	cargo test --locked -p lastframe --test it lambda -- --ignored

soak: ## Kill the queue, fail its disk and cut its power for SOAK_MINUTES (10), from SOAK_SEED
	cargo test --locked -p lastframe-store --test crash -- --ignored --exact soak::soak --nocapture

fuzz: ## Feed the parsers what libFuzzer finds, each for FUZZ_SECONDS (60)
	@scripts/fuzz

schemathesis: build ## Ask a server whatever its openapi.json allows, and what it does not
	@scripts/schemathesis

bench: build ## Measure: a render of a warm server beside `npx remotion render`
	@node bench/warm-render.mjs

bench-queue: setup bench/node_modules ## Measure: the queue beside BullMQ on Redis; QUICK=1 for a glance
	cargo build --release --locked -p lastframe -p lastframe-bench
	@node bench/queue.mjs $(if $(QUICK),--quick)

bench-lambda: build bench/lambda-start/node_modules ## Measure: the functions on AWS beside the guide's handlers in Node
	@scripts/setup tests
	@scripts/lambda x86_64
	@node bench/lambda-start.mjs

bench/lambda-start/node_modules: bench/lambda-start/package-lock.json
	cd bench/lambda-start && npm install --no-save --no-audit --no-fund --ignore-scripts
	@touch $@

bench/node_modules: bench/package-lock.json
	cd bench && npm install --no-save --no-audit --no-fund --ignore-scripts
	@touch $@

clean: ## Remove what was built and rendered
	cargo clean
	rm -rf out remotion-app/build remotion-app/build-test-site
