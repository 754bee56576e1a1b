"""`experiments adopt`: a folder that the template did not make becomes an experiment. Nothing is overwritten."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from experiments.errors import Problem
from experiments.experiment import Experiment, Templates
from experiments.files import Write, write_all
from experiments.git import Repository
from experiments.screen import show_cells
from experiments.template import ANSWERS, Files, Release, fetched_from, render, stamp

# What the template's own files import or run: if a folder has another file in its place, they would not work.
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
    """What adopting a folder adds, and what of it stays."""

    added: Files
    stays: list[str]
    clashes: dict[str, str]  # by path: why it is in the template's way
    runs: dict[str, list[str]]


def adopt(path: str, source: str | None, dry_run: bool) -> int:
    """Adopt a folder, after a table of what that adds. Returns 1 where names clash, and nothing is written."""
    folder = Path(path).resolve()
    if not folder.is_dir():
        raise Problem(f"{path} is no folder")
    if (folder / ANSWERS).exists() or (folder / ANSWERS).is_symlink():
        raise Problem(f"{path} has {ANSWERS}, so it is an experiment already", "`experiments update` updates it")
    experiment = Experiment(folder, Repository.of(folder))
    if folder.parent != experiment.repository.root / "experiments":
        raise Problem(f"{path} is not in experiments/ of its repository", "move it there with `git mv`")
    with experiment.lock(), Templates.kept() as templates:
        found = typed_source(source) if source else source_of_others(experiment)
        template = templates.get(found)
        release = template.release(template.find_commit(template.newest()))
        answers = starting_answers(experiment, release)
        plan = make_plan(experiment, release, answers, fetched_from(found).removesuffix(".git"))
        show_plan(plan, experiment)
        if plan.clashes:
            raise Problem(f"{len(plan.clashes)} names clash; nothing was added", "rename those files, and run again")
        if not dry_run:
            write_plan(experiment, plan, release, found)
    return 0


def typed_source(source: str) -> str:
    """A template as a person names it. A relative path would hold from here alone."""
    return str(Path(source).resolve()) if Path(source).exists() else source


def source_of_others(experiment: Experiment) -> str:
    """The template of the repository's other experiments. Raises Problem where they have none, or several."""
    sources = set()
    for file in sorted(experiment.repository.root.glob(f"experiments/*/{ANSWERS}")):
        with suppress(Problem, OSError):
            sources.add(str(Experiment.at(file.parent).answers().source))
    if len(sources) != 1:
        others = f"the other experiments have {len(sources)} templates" if sources else "no other experiment has one"
        raise Problem(f"which template? {others}", "name it: --source gh:lab/tc-exp-template")
    return sources.pop()


def starting_answers(experiment: Experiment, release: Release) -> dict[str, Any]:
    """Answers with the lab's defaults, and the runs that are there."""
    lab = yaml.safe_load((release.folder / "lab.yml").read_text(encoding="utf-8"))
    package, root = str(lab.get("package") or ""), experiment.repository.root
    module = f"{package.replace('.', '/')}/timestamp.py"
    has_package = bool(package) and any((root / place / module).is_file() for place in (".", "src"))
    answers: dict[str, Any] = {
        "experiment": experiment.path.name,
        "title": experiment.path.name,
        "package": package if has_package else "",
        "repository": lab.get("repository") or "",
        "user_email": "",
        "queries": False,
    }
    return answers | {"runs": recognised_runs(experiment.path, answers, release)}


def recognised_runs(folder: Path, answers: Mapping[str, Any], release: Release) -> dict[str, list[str]]:
    """The runs whose script, launcher and configurations are there under the names that the grammar gives them.

    A launcher MACHINE_SCRIPT[-MODE]_ID.slurm is the run MACHINE[-MODE]_ID of SCRIPT, if the grammar says so too.
    """
    runs: dict[str, list[str]] = {}
    for launcher in sorted(folder.glob("scripts/*.slurm")):
        for machine in release.machines:
            found = re.fullmatch(rf"{re.escape(machine)}_(.+?)(-[a-z]+)?_([0-9]{{3}}(?:_[A-Za-z0-9]+)*)", launcher.stem)
            if not found:
                continue
            script, token = found[1], f"{machine}{found[2] or ''}_{found[3]}"
            wanted = runs | {script: [*runs.get(script, []), token]}
            try:
                parsed = release.parse_runs(answers, wanted)
            except Problem:
                continue
            [run] = [run for run in parsed if (run.script, run.token) == (script, token)]
            needed = [f"scripts/{script}.py", *run.files]
            if script != "query" and all((folder / name).is_file() for name in needed):
                runs = wanted
                break
    return runs


def make_plan(experiment: Experiment, release: Release, answers: Mapping[str, Any], address: str) -> Plan:
    """Compare what the template renders with what is there. A page of its names the template by `address`."""
    rendered = render(release.folder, release.version, answers, first=True)
    added: Files = {}
    stays, clashes = [], {}
    for name, written in rendered.items():
        path = experiment.path / name
        file = replace(written, content=written.content.replace(str(release.folder).encode(), address.encode()))
        if is_in_the_way(experiment.path, name):
            clashes[name] = "a file or a link stands in its place"
        elif not path.exists():
            added[name] = file
        elif name.startswith(LIBRARY) and path.read_bytes() != file.content:
            clashes[name] = "exists, and the template has its own"
        else:
            stays.append(name)
    own_module = experiment.path / "scripts/runtime.py"
    if own_module.exists():
        clashes["scripts/runtime.py"] = "the template's scripts/runtime/ would hide it"
    return Plan(added, stays, clashes, answers["runs"])


def is_in_the_way(folder: Path, name: str) -> bool:
    """Whether a file stands where a folder must be, or a link or a folder where the file must be."""
    path = folder / name
    parents = [parent for parent in path.parents if folder in parent.parents]
    if any((parent.exists() or parent.is_symlink()) and not parent.is_dir() for parent in parents):
        return True
    return path.is_symlink() or (path.exists() and not path.is_file())


def show_plan(plan: Plan, experiment: Experiment) -> None:
    """A table: what is added, what stays, what clashes, and which runs are taken."""
    rows = [("clashes", f"{name}: {why}") for name, why in plan.clashes.items()]
    rows += [("is added", name) for name in plan.added]
    rows += [("stays", name) for name in plan.stays]
    rows += [("is a run", f"{token} of {script}") for script, tokens in plan.runs.items() for token in tokens]
    if not plan.runs:
        rows.append(("no run", "no launcher and configuration follow the template's names: runs: {}"))
    styles = ["yellow" if row[0] == "clashes" else "" for row in rows]
    show_cells((experiment.name, ""), rows, styles)


def write_plan(experiment: Experiment, plan: Plan, release: Release, source: str) -> None:
    """Write what is added, the answers last: without them the folder is no experiment. All of it, or nothing."""
    files = dict(plan.added)
    answers = files.pop(ANSWERS).content.decode()
    text = stamp(answers, release.version, release.commit, yaml.safe_dump({"_src_path": source}))
    writes = [Write(experiment.path / name, None, file.content, file.executable) for name, file in files.items()]
    write_all([*writes, Write(experiment.path / ANSWERS, None, text.encode())])
