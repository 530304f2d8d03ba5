# The commands that a contributor needs. docs/contributing.md explains them.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help install dev format check test full site generate requirements dist

help:  ## list the commands
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

install:  ## create .venv with everything for tests and checks
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[test,lint,docs]'

dev:  ## run every process on this machine, with the simulator
	$(BIN)/otpqueue dev

format:  ## format, and fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check:  ## lint, format, types, import rules, Dockerfile
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile

test:  ## run the tests
	$(BIN)/pytest

full:  ## run the long forms of some tests
	$(BIN)/pytest -m full

site:  ## build the documentation as a static site, and check its links
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

generate:  ## write the files that are generated from the code
	$(BIN)/otpqueue settings --markdown > docs/settings.md
	$(BIN)/otpqueue settings --env > .env.example
	$(BIN)/otpqueue problems --markdown > docs/problems.md
	$(BIN)/python -m otpqueue.cli.reference > docs/cli.md

requirements:  ## pin the packages of the image, with hashes
	$(BIN)/uv pip compile pyproject.toml --extra simulator --extra otel \
		--universal --python-version 3.11 --generate-hashes --quiet --output-file requirements.txt
	$(BIN)/uv pip compile deploy/docker/build-requirements.in \
		--universal --python-version 3.11 --generate-hashes --quiet --output-file deploy/docker/build-requirements.txt

dist:  ## build sdist and wheel, and check their metadata
	$(BIN)/python -m hatchling build --directory dist
	$(BIN)/twine check --strict dist/*
