"""`experiments adopt`: add the template to existing experiments. Nothing is overwritten."""

import os
import re
import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from experiments.edit_runs import DEFAULT, newest_configuration, shown_request
from experiments.errors import Problem
from experiments.experiment import Experiment, Templates, absolute_source, find_folder, repository_of
from experiments.files import Write, write_all
from experiments.launcher import Syntax
from experiments.program import Program
from experiments.recognition import (
    Recognition,
    Recognized,
    ids_of_configurations,
    ids_of_launchers,
    inherit,
    recognize,
)
from experiments.screen import show_cells
from experiments.template import ANSWERS, INSTRUCTIONS, OWN_FILES, Files, Release, clone_url, render, stamp_answers

# Files that the template's own files import or run. Another file in their place would break those.
LIBRARY = (
    "conf/runtime.yaml",
    "scripts/optuna_worker.py",
    "scripts/query.py",
    "scripts/runtime/",
    "scripts/submit.sh",
    "scripts/timestamp.py",
)
RUNTIME = "scripts/runtime/"
ABSENT, PRESENT, BLOCKED = "absent", "present", "blocked"  # states of a file's place in a folder
NAME = re.compile(r"[A-Za-z0-9_-]+")  # by the validator of `experiment` in copier.yml
NUMBERED = re.compile(r"[A-Z]?[0-9]{3}-")

ADD_RUN = re.compile(rb"^experiments add-run .*$", re.MULTILINE)
QUERY = re.compile(rb"(?<=/scripts/query\.py ).*$", re.MULTILINE)
TEMPLATES_OWN = re.compile(rb"The template updates this file|\A@AGENTS\.md\n\Z")
RUN_ARRAY_END = re.compile(rb"(?<=\n)\)\n")


@dataclass
class Session:
    """State shared by the folders of one command."""

    source: str | None  # the template; None: that of the repository's other experiments
    dry_run: bool
    templates: Templates
    syntax: Syntax
    packages: dict[Path, str] = field(default_factory=dict)  # the default of `package`, by repository
    warned: set[str] = field(default_factory=set)  # the packages that were reported as missing


@dataclass
class Plan:
    """The changes that adopting a folder would make."""

    answers: dict[str, Any]
    recognition: Recognition
    added: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    clashes: dict[str, str] = field(default_factory=dict)  # the reason by path
    rendered: Files | None = None  # None: nothing had to be rendered to know the names


def adopt(paths: Sequence[str], source: str | None, dry_run: bool) -> int:
    """Adopt folders, and print a table for each. Returns 1 if one cannot be adopted; nothing is added to that one.

    Raises Problem if there is only one, and it cannot be adopted.
    """
    failed = False
    folders = []
    for path in paths:
        with suppress(Problem):  # adopt_one reports it
            folders.append(find_folder(path))
    with Templates.temporary() as templates:
        session = Session(source, dry_run, templates, Syntax(folders))
        for path in paths:
            try:
                adopt_one(path, session)
            except Problem as problem:
                if len(paths) == 1:
                    raise
                failed = True
                print(f"experiments: {problem}", file=sys.stderr)
    return int(failed)


def adopt_one(path: str, session: Session) -> None:
    """Adopt one folder. Raises Problem, and adds nothing, if names clash."""
    experiment = open_folder(path)
    with nullcontext() if session.dry_run else experiment.lock():
        source = absolute_source(session.source) if session.source else source_of_others(experiment)
        template = session.templates.get(source)
        release = template.release(template.find_commit(template.newest()))
        plan = make_plan(experiment, release, session)
        warn_package(plan, release, session.warned)
        show_plan(plan, experiment)
        if plan.clashes:
            problem = f"{path}: {len(plan.clashes)} files clash; nothing was added"
            raise Problem(problem, "Rename them, and run the command again.")
        if not session.dry_run:
            write_plan(experiment, plan, release, source)


def open_folder(path: str) -> Experiment:
    """Return the folder at a path. Raises Problem if it cannot become an experiment."""
    folder = find_folder(path)
    if not folder.is_dir():
        raise Problem(f"{path} is not a folder")
    if (folder / ANSWERS).exists() or (folder / ANSWERS).is_symlink():
        raise Problem(f"{path} already is an experiment: it has {ANSWERS}", "Run `experiments update` to update it.")
    experiment = Experiment(folder, repository_of(folder))
    if folder.parent != experiment.repository.root / "experiments":
        raise Problem(f"{path} is not in experiments/ of its repository", "Move it there with `git mv`.")
    if not NAME.fullmatch(folder.name):
        raise Problem(
            f"{path} has characters other than letters, digits, _ and - in its name", "Rename it with `git mv`."
        )
    if not NUMBERED.match(folder.name) and not any((folder / name).is_dir() for name in ("scripts", "conf")):
        raise Problem(
            f"{path} has no number, no scripts/ and no conf/, so it is not an experiment",
            f"If it is one, run: mkdir {shlex.quote(f'{path}/scripts')}",
        )
    return experiment


def source_of_others(experiment: Experiment) -> str:
    """Return the template of the repository's other experiments. Raises Problem unless they have exactly one."""
    sources = set()
    for file in sorted(experiment.repository.root.glob(f"experiments/*/{ANSWERS}")):
        with suppress(Problem, OSError):
            sources.add(str(Experiment.open(file.parent).answers().source))
    if len(sources) != 1:
        others = f"the other experiments use {len(sources)} templates" if sources else "no other experiment uses one"
        raise Problem(f"the template is unknown: {others}", "Add --source, such as --source gh:lab/tc-exp-template")
    return sources.pop()


def make_plan(experiment: Experiment, release: Release, session: Session) -> Plan:
    """Compare what the template renders with what is there.

    Questions have Copier's defaults, except the title and what the folder itself shows: runs, package and queries.
    A dry run does not render, which takes most of the time, unless the content of a file decides.
    """
    folder = experiment.path
    answers: dict[str, Any] = {"experiment": folder.name, "title": folder.name, "queries": has_queries(folder)}
    root = experiment.repository.root
    if root not in session.packages:
        session.packages[root] = release.package_around(folder)
    answers["package"] = session.packages[root]
    own = own_instructions(folder)
    answers |= {OWN_FILES: own} if own else {}
    recognition = recognize(folder, answers, release, session.syntax)
    plan = Plan(answers | {"runs": recognition.answer}, recognition, kept=own)
    skipped = unwanted(folder, recognition)
    names = [name for name in release.file_names(plan.answers) if name not in skipped]
    if not session.dry_run or any((folder / name).exists() for name in names if name.startswith(LIBRARY)):
        plan.rendered = render(release.folder, release.version, plan.answers, around=root)
    for name in names:
        compare(folder, name, plan)
    if (folder / "scripts/runtime.py").exists():
        plan.clashes["scripts/runtime.py"] = "the template's scripts/runtime/ would shadow it"
    refuse_ignored(experiment, plan)
    return plan


def own_instructions(folder: Path) -> list[str]:
    """Return the instructions that users wrote. Those of the template are there if an earlier call was killed."""
    paths = [folder / name for name in INSTRUCTIONS if os.path.lexists(folder / name)]
    return [path.name for path in paths if not path.is_file() or not TEMPLATES_OWN.search(path.read_bytes())]


def refuse_ignored(experiment: Experiment, plan: Plan) -> None:
    """Add instructions that git would ignore to the clashes: plain Copier deletes such files.

    The template's .gitignore excepts them from all rules, but a folder may have a .gitignore of its own.
    """
    added = [] if ".gitignore" in plan.added else [name for name in plan.added if name in INSTRUCTIONS]
    rules = experiment.repository.ignored([experiment.tracked(name) for name in added])
    for path, rule in rules.items():
        name = Path(path).name
        plan.added.remove(name)
        plan.clashes[name] = f"git would ignore it by {rule}. Write !/{name} into {experiment.name}/.gitignore"


def has_queries(folder: Path) -> bool:
    """Return whether a folder has queries for the template's query.py. A script of that name is for its own."""
    return any(folder.glob("queries/*.cql")) and not (folder / "scripts/query.py").exists()


def unwanted(folder: Path, recognition: Recognition) -> set[str]:
    """Return the names of rendered files that only new experiments need: samples in the place of the user's files."""
    names = {"queries/001_small_build.cql"} if any(folder.glob("queries/*.cql")) else set()
    # A script with launchers that take a configuration has several, so it needs no first one.
    return names | {f"conf/{found.run.script}.yaml" for found in recognition.runs if found.candidate.takes_config}


def compare(folder: Path, name: str, plan: Plan) -> None:
    """Add a rendered file to the plan, by what the folder has in its place."""
    state = find_state(str(folder), name)
    if state == BLOCKED:
        plan.clashes[name] = "a file or a symlink is in its place"
    elif state == ABSENT:
        plan.added.append(name)
    elif name.startswith(LIBRARY) and plan.rendered and (folder / name).read_bytes() != plan.rendered[name].content:
        plan.clashes[name] = "exists, but differs from the template's"
    else:
        plan.kept.append(name)


def find_state(folder: str, name: str) -> str:
    """Return whether a file is absent, present, or blocked by a symlink, or by a file for a folder or the reverse."""
    *parents, last = name.split("/")
    path = folder
    for part in parents:
        path = f"{path}/{part}"
        if not os.path.isdir(path):
            return BLOCKED if os.path.lexists(path) else ABSENT
    path = f"{path}/{last}"
    if not os.path.lexists(path):
        return ABSENT
    return PRESENT if os.path.isfile(path) and not os.path.islink(path) else BLOCKED


def warn_package(plan: Plan, release: Release, warned: set[str]) -> None:
    """Warn once if the repository does not have the package of lab.yml."""
    package = release.lab["package"]
    if package and not plan.answers["package"] and package not in warned:
        warned.add(package)
        print(
            f"warning: this repository has no {package}/timestamp.py, the package of lab.yml, so `package` is "
            "recorded as ''. Correct it there.",
            file=sys.stderr,
        )


def show_plan(plan: Plan, experiment: Experiment) -> None:
    """Print a table: the runs, other launchers, and the files that are added, kept, or clash."""
    rows = [("clash", f"{name}: {why}") for name, why in plan.clashes.items()]
    rows += [("run", describe(found)) for found in plan.recognition.runs]
    rows += [("no run", f"{name}.slurm: {why}") for name, why in plan.recognition.others.items()]
    folded = [name for name in plan.added if name.startswith(RUNTIME)]
    rows += [("add", name) for name in plan.added if name not in folded]
    rows += [("add", f"{RUNTIME} ({len(folded)} files)")] if folded else []
    rows += [("keep", name) for name in plan.kept if not name.startswith(RUNTIME)]
    styles = ["yellow" if row[0] == "clash" else "" for row in rows]
    show_cells((experiment.name, ""), rows, styles)


def describe(found: Recognized) -> str:
    """Return a run in one line: its token and script, its launcher if that has another name, and what it requests."""
    name = f"{found.run.token} of {found.run.script}"
    launcher = f", like {found.candidate.launcher}.slurm" if found.is_renamed else ""
    request = shown_request(found.candidate.request)
    return f"{name}{launcher}{': ' if request else ''}{request}"


def write_plan(experiment: Experiment, plan: Plan, release: Release, source: str) -> None:
    """Write what is added, all or nothing. The answers are last: without them the folder is not an experiment."""
    assert plan.rendered is not None
    files = {name: plan.rendered[name] for name in plan.added}
    answers = files.pop(ANSWERS).content.decode()
    for found in plan.recognition.runs:
        for name, content in contents_of(experiment.path, found, files).items():
            if name in files:
                files[name] = replace(files[name], content=content)
    for name, file in files.items():
        files[name] = replace(file, content=with_address(file.content, release.folder, source))
    if "README.md" in files:
        content = suggest_commands(files["README.md"].content, experiment, plan, release)
        files["README.md"] = replace(files["README.md"], content=content)
    text = stamp_answers(answers, release.version, release.commit, yaml.safe_dump({"_src_path": source}))
    writes = [Write(experiment.path / name, None, file.content, file.executable) for name, file in files.items()]
    write_all([*writes, Write(experiment.path / ANSWERS, None, text.encode())])


def with_address(page: bytes, folder: Path, source: str) -> bytes:
    """Return a page that was rendered from a folder as if it was rendered from a template's source."""
    address = clone_url(source).removesuffix(".git")
    installed = f"git+{address}" if "://" in address else address
    return page.replace(f"install {folder}".encode(), f"install {installed}".encode()).replace(
        str(folder).encode(), address.encode()
    )


def contents_of(folder: Path, found: Recognized, files: Files) -> dict[str, bytes]:
    """Return the contents of a run's new files that are not the starter's, by name.

    A configuration of another name gets the values of the run's own one. A script gets the name of a module.
    """
    candidate, run = found.candidate, found.run
    script, launcher = f"scripts/{run.script}.py", f"scripts/{run.launcher}.slurm"
    contents = {script: (folder / f"scripts/{candidate.program}.py").read_bytes()}
    if launcher in files and candidate.overrides:
        words = "".join(f"  {shlex.quote(word)}\n" for word in candidate.overrides).encode()
        contents[launcher] = RUN_ARRAY_END.sub(lambda end: words + end[0], files[launcher].content, count=1)
    if run.sweeper:
        contents |= sweep_contents(folder, found, files)
    elif run.config:
        contents[f"conf/{run.config}.yaml"] = inherit(candidate.config).encode()
    return contents


def sweep_contents(folder: Path, found: Recognized, files: Files) -> dict[str, bytes]:
    """Return the contents of the two files of a W&B sweep: the user's, with the template's command, and its values."""
    name = f"conf/{found.run.config}.yaml"
    if name not in files:
        return {}
    sweep = (folder / f"conf/{found.candidate.config}.yaml").read_bytes()
    if b"\ncommand:" not in b"\n" + sweep:
        _, command, words = files[name].content.partition(b"\ncommand:")
        sweep = sweep.rstrip(b"\n") + command + words
    program = Program.read(folder / f"scripts/{found.candidate.program}.py")
    values = inherit(program.config or Path(DEFAULT).stem, runtime=True)
    return {name: sweep, f"conf/{found.run.config}_run.yaml": values.encode()}


def suggest_commands(readme: bytes, experiment: Experiment, plan: Plan, release: Release) -> bytes:
    """Return a README.md with commands that work here: with a free number, and existing configurations and queries."""
    folder = experiment.path
    add_run = f"experiments add-run experiments/{folder.name} {suggest_run(plan, folder, release)}"
    readme = ADD_RUN.sub(lambda _: add_run.encode(), readme)
    for found in plan.recognition.runs:
        config = newest_configuration(folder, found.run.script, ()) if found.candidate.takes_config else ""
        for words in (f"{found.run.launcher} ", "--config-name ") if config else ():
            readme = readme.replace(f"{words}{found.run.script}\n".encode(), f"{words}{config}\n".encode())
    queries = sorted(path.stem for path in folder.glob("queries/*.cql"))
    return QUERY.sub(lambda _: shlex.quote(queries[0]).encode(), readme) if queries else readme


def suggest_run(plan: Plan, folder: Path, release: Release) -> str:
    """Return a script and a token that `add-run` accepts."""
    found = [each for each in plan.recognition.runs if not each.run.sweeper]
    found.sort(key=lambda each: each.candidate.is_plain)
    runs = [each.run for each in found]
    mode = "-plain" if found and found[0].candidate.is_plain else ""
    machines = [name for name, machine in release.machines.items() if not machine.get("retired")]
    script = runs[0].script if runs else first_script(folder, release)
    machine = next((run.machine for run in runs if run.machine in machines), machines[0])
    used = {run.id for run in runs if run.script == script} | ids_of_configurations(folder, script)
    used |= ids_of_launchers([path.stem for path in folder.glob("scripts/*.slurm")], script, release.machines)
    numbers = [int(id[:3]) for id in used if id]
    return f"{script} {machine}{mode}_{max(numbers, default=-1) + 1:03}"


def first_script(folder: Path, release: Release) -> str:
    """Return a script of the folder that uses Hydra, else the name of a new one."""
    for path in sorted(folder.glob("scripts/*.py")):
        if path.stem.isidentifier() and Program.read(path).has_hydra:
            return path.stem
    call = "{% from 'rules/names.jinja' import default_script %}{{ default_script(experiment) }}"
    return release.evaluate(call, experiment=folder.name)
