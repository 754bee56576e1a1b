"""`experiments adopt`: make an experiment of a folder that the template did not make. Nothing is overwritten."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from experiments.errors import Problem
from experiments.experiment import Experiment, Templates, find_folder
from experiments.files import Write, write_all
from experiments.git import Repository
from experiments.launcher import LauncherName
from experiments.screen import show_cells
from experiments.template import ANSWERS, Files, Release, clone_url, render, stamp_answers

# Files that the template's own files import or run. Another file in their place would break those.
LIBRARY = (
    "conf/runtime.yaml",
    "scripts/optuna_worker.py",
    "scripts/query.py",
    "scripts/runtime/",
    "scripts/submit.sh",
    "scripts/timestamp.py",
)


@dataclass(frozen=True)
class Plan:
    """What adopting a folder would do."""

    added: Files
    kept: list[str]
    clashes: dict[str, str]  # the reason by path
    runs: dict[str, list[str]]


def adopt(path: str, source: str | None, dry_run: bool) -> int:
    """Adopt a folder, and print a table of what that adds. Raises Problem, and adds nothing, if names clash."""
    folder = find_folder(path)
    if not folder.is_dir():
        raise Problem(f"{path} is not a folder")
    if (folder / ANSWERS).exists() or (folder / ANSWERS).is_symlink():
        raise Problem(f"{path} is an experiment already: it has {ANSWERS}", "Run `experiments update` to update it.")
    experiment = Experiment(folder, Repository.find(folder))
    if folder.parent != experiment.repository.root / "experiments":
        raise Problem(f"{path} is not in experiments/ of its repository", "Move it there with `git mv`.")
    with experiment.lock(), Templates.temporary() as templates:
        found = absolute_source(source) if source else source_of_others(experiment)
        template = templates.get(found)
        release = template.release(template.find_commit(template.newest()))
        plan = make_plan(experiment, release, clone_url(found).removesuffix(".git"))
        show_plan(plan, experiment)
        if plan.clashes:
            raise Problem(f"{len(plan.clashes)} names clash; nothing was added", "Rename those files, and run again.")
        if not dry_run:
            write_plan(experiment, plan, release, found)
    return 0


def absolute_source(source: str) -> str:
    """Return a template as it can be recorded: a relative path would be valid in this folder only."""
    return str(Path(source).resolve()) if Path(source).exists() else source


def source_of_others(experiment: Experiment) -> str:
    """Return the template of the repository's other experiments. Raises Problem unless they have exactly one."""
    sources = set()
    for file in sorted(experiment.repository.root.glob(f"experiments/*/{ANSWERS}")):
        with suppress(Problem, OSError):
            sources.add(str(Experiment.open(file.parent).answers().source))
    if len(sources) != 1:
        others = f"the other experiments have {len(sources)} templates" if sources else "no other experiment has one"
        raise Problem(f"the template is unknown: {others}", "Name it: --source gh:lab/tc-exp-template")
    return sources.pop()


def make_plan(experiment: Experiment, release: Release, address: str) -> Plan:
    """Compare what the template renders with what is there. Rendered pages name the template by its address.

    Questions have Copier's defaults, except the title and queries.
    """
    title = experiment.path.name
    answers: dict[str, Any] = {"experiment": title, "title": title, "queries": False}
    answers["runs"] = recognised_runs(experiment.path, answers, release)
    rendered = render(release.folder, release.version, answers, around=experiment.repository.root)
    added: Files = {}
    kept, clashes = [], {}
    for name, written in rendered.items():
        path = experiment.path / name
        file = replace(written, content=written.content.replace(str(release.folder).encode(), address.encode()))
        if is_in_the_way(experiment.path, name):
            clashes[name] = "a file or a symlink is in its place"
        elif not path.exists():
            added[name] = file
        elif name.startswith(LIBRARY) and path.read_bytes() != file.content:
            clashes[name] = "exists, but differs from the template's"
        else:
            kept.append(name)
    if (experiment.path / "scripts/runtime.py").exists():
        clashes["scripts/runtime.py"] = "the template's scripts/runtime/ would hide it"
    return Plan(added, kept, clashes, answers["runs"])


def recognised_runs(folder: Path, answers: Mapping[str, Any], release: Release) -> dict[str, list[str]]:
    """Return the runs whose script, launcher and configurations have the names that the template's rules give them."""
    runs: dict[str, list[str]] = {}
    for launcher in sorted(folder.glob("scripts/*.slurm")):
        for name in LauncherName.parse(launcher.stem, release.machines):
            wanted = runs | {name.script: [*runs.get(name.script, []), name.token]}
            try:
                parsed = release.parse_runs(answers, wanted)
            except Problem:
                continue
            [run] = [run for run in parsed if (run.script, run.token) == (name.script, name.token)]
            needed = [f"scripts/{name.script}.py", *run.files]
            if name.script != "query" and all((folder / file).is_file() for file in needed):
                runs = wanted
                break
    return runs


def is_in_the_way(folder: Path, name: str) -> bool:
    """Return whether a symlink, or a file for a folder or the reverse, is in the place of a file or its folders."""
    path = folder / name
    parents = [parent for parent in path.parents if folder in parent.parents]
    if any((parent.exists() or parent.is_symlink()) and not parent.is_dir() for parent in parents):
        return True
    return path.is_symlink() or (path.exists() and not path.is_file())


def show_plan(plan: Plan, experiment: Experiment) -> None:
    """Print a table of what is added and kept, what clashes, and which runs are recognised."""
    rows = [("clash", f"{name}: {why}") for name, why in plan.clashes.items()]
    rows += [("add", name) for name in plan.added]
    rows += [("keep", name) for name in plan.kept]
    rows += [("run", f"{token} of {script}") for script, tokens in plan.runs.items() for token in tokens]
    if not plan.runs:
        rows.append(("no run", "no launcher and configuration follow the template's names; recorded as runs: {}"))
    styles = ["yellow" if row[0] == "clash" else "" for row in rows]
    show_cells((experiment.name, ""), rows, styles)


def write_plan(experiment: Experiment, plan: Plan, release: Release, source: str) -> None:
    """Write what is added, all or nothing. The answers are last: without them the folder is not an experiment."""
    files = dict(plan.added)
    answers = files.pop(ANSWERS).content.decode()
    text = stamp_answers(answers, release.version, release.commit, yaml.safe_dump({"_src_path": source}))
    writes = [Write(experiment.path / name, None, file.content, file.executable) for name, file in files.items()]
    write_all([*writes, Write(experiment.path / ANSWERS, None, text.encode())])
