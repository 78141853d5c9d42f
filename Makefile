.DEFAULT_GOAL := help
.PHONY: help setup build demo test lint check bench clean

help: ## Say what can be made
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: ## Install what is missing: a browser, fonts, npm packages
	@scripts/setup

build: setup ## Build the program: target/release/lastframe
	cargo build --release --locked -p lastframe

demo: build ## Render a video from token to file: out/demo.mp4
	@scripts/demo

lint: setup ## Formatting, lints, documentation, types, licences
	@scripts/lint

test: setup ## Everything that must hold, with a real browser
	@scripts/test

bench: build ## Measure: a render of a warm server beside `npx remotion render`
	@node bench/warm-render.mjs

clean: ## Remove what was built and rendered
	cargo clean
	rm -rf out remotion-app/build remotion-app/build-test-site
