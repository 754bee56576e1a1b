"""An experiment: its folder, repository, recorded answers and template."""

import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from experiments.errors import Problem, one_line
from experiments.git import Blob, Repository
from experiments.grid import nearest
from experiments.template import ANSWERS, SOURCE_ENTRY, Release, Template

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where libyaml is installed
REQUIRED = {"_src_path", "_commit", "experiment", "runs"}


@dataclass(frozen=True)
class Answers:
    """An answers file."""

    text: str
    values: Mapping[str, Any]

    @classmethod
    def parse(cls, text: str, name: str) -> "Answers":
        """Read the text of an answers file. Raises Problem, with the file's name, if it is not of this template."""
        values = None
        with suppress(yaml.YAMLError, ValueError, RecursionError):
            values = yaml.load(text, LOADER)
        if not isinstance(values, dict) or not values.keys() >= REQUIRED or not isinstance(values["runs"], dict):
            raise Problem(f"{name} is not an answers file of this template, or has conflicts")
        return cls(text, values)

    @property
    def version(self) -> str:
        return one_line(str(self.values["_commit"]))

    @property
    def commit(self) -> str:
        """The id of that version's commit; empty if it is not recorded."""
        return str(self.values.get("_commit_id") or "")

    @property
    def source(self) -> Any:
        """The recorded source, which may be anything."""
        return self.values["_src_path"]

    def name_mismatch(self, folder: Path) -> str:
        """Return what is wrong if the files of a folder were rendered for another experiment, else an empty string."""
        if self.values["experiment"] == folder.name:
            return ""
        rename = ["copier", "update", "--defaults", "-d", f"experiment={folder.name}", os.path.relpath(folder)]
        return f"belongs to experiment {self.values['experiment']}. Rename its files: {shlex.join(rename)}"

    @property
    def source_entry(self) -> str:
        """The lines of the file that record the source."""
        found = SOURCE_ENTRY.search(self.text)
        return found[0] if found else yaml.safe_dump({"_src_path": self.source})


@dataclass
class Experiment:
    """The folder of an experiment, adopted or not."""

    path: Path
    repository: Repository

    @classmethod
    def open(cls, path: str | Path) -> "Experiment":
        """Return the experiment in a folder with an answers file. Raises Problem."""
        folder = find_folder(path)
        if not (folder / ANSWERS).is_file():
            may_be_one = folder.is_dir() and folder.parent.name == "experiments"
            adopt = f"To adopt it, run `experiments adopt {shlex.quote(str(path))}`."
            raise Problem(f"{path} has no {ANSWERS}, so it is not an experiment", adopt if may_be_one else "")
        return cls(folder, Repository.find(folder))

    @property
    def name(self) -> str:
        """Its path, relative to the current directory."""
        return os.path.relpath(self.path)

    @property
    def prefix(self) -> str:
        """The prefix of its job names, by rules/names.jinja: 011 for 011-growth."""
        number = re.match(r"[A-Z]?[0-9]{3}(?=-)", self.path.name)
        return number[0] if number else self.path.name

    @property
    def relative(self) -> str:
        """Its path in the repository."""
        return self.path.relative_to(self.repository.root).as_posix()

    @property
    def title(self) -> str:
        """Its name in a commit message."""
        return self.path.name if self.relative == "." else self.relative

    def tracked(self, name: str) -> str:
        """Return the path of one of its files in the repository. Its folder may be the root, as in a submodule."""
        return name if self.relative == "." else f"{self.relative}/{name}"

    def committed(self) -> dict[str, Blob]:
        """Return its files in the last commit, by their path in the experiment."""
        return self.repository.committed(self.tracked(""))

    def answers(self) -> Answers:
        """Read the answers file in the working tree. Raises Problem."""
        name = f"{self.name}/{ANSWERS}"
        try:
            return Answers.parse((self.path / ANSWERS).read_text(encoding="utf-8"), name)
        except UnicodeDecodeError:
            raise Problem(f"{name} is not an answers file of this template, or has conflicts") from None

    def lock(self) -> AbstractContextManager[None]:
        """Hold the lock that lets one command at a time work on this experiment."""
        return self.repository.lock(self.relative)


@dataclass
class Templates:
    """The templates that experiments name, each cloned once."""

    folder: Path
    fetched: dict[str, Template | Problem] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def temporary(cls) -> Iterator["Templates"]:
        """Keep the clones in a folder that is removed in the end."""
        with TemporaryDirectory(prefix="templates-") as folder:
            yield cls(Path(folder))

    def get(self, source: Any) -> Template:
        """Return the template of a source. Raises Problem each time if it cannot be cloned."""
        key = str(source)
        if key not in self.fetched:
            folder = self.folder / str(len(self.fetched))
            folder.mkdir()
            try:
                self.fetched[key] = Template.fetch(source, folder)
            except Problem as problem:
                self.fetched[key] = problem
        found = self.fetched[key]
        if isinstance(found, Problem):
            raise found
        return found

    def recorded(self, answers: Answers) -> Release:
        """Return the recorded release of an experiment."""
        template = self.get(answers.source)
        return template.release(template.find_recorded(answers.version, answers.commit))

    def source_with(self, answers: Answers, source: Any) -> Template:
        """Return the template that has the recorded release: another source if that has its commit, as a fork does."""
        other = self.get(source)
        return other if other.has_commit(answers.commit) else self.get(answers.source)


def absolute_source(source: str) -> str:
    """Return a template as it can be recorded: a relative path would be valid in this folder only."""
    return str(Path(source).resolve()) if Path(source).exists() else source


def find_folder(path: str | Path) -> Path:
    """Return the folder of a path, or of a name in experiments/: 020-solubility, or 020 alone. Raises Problem."""
    folder, name = Path(path).resolve(), str(path)
    if folder.exists() or "/" in name:
        return folder
    root = Repository.find(Path(".")).root / "experiments"
    folders = [each.name for each in sorted(root.iterdir()) if each.is_dir()] if root.is_dir() else []
    found = [each for each in folders if each == name] or [each for each in folders if each.startswith(f"{name}-")]
    if len(found) == 1:
        return root / found[0]
    if found:
        raise Problem(f'"{name}" is ambiguous: {", ".join(found)}', "Write one of these names.")
    names = ", ".join(nearest(name, folders))
    raise Problem(f'unknown experiment "{name}"; the nearest of {len(folders)} in experiments/: {names}')


def repository_of(folder: Path) -> Repository:
    """Return the repository of an experiment's folder, which may be one of its own, such as a submodule."""
    return Repository.find(folder) if (folder / ".git").exists() else repository_around(folder.parent)


@cache
def repository_around(folder: Path) -> Repository:
    """Return the repository around a folder. Git is asked once for all experiments in it."""
    return Repository.find(folder)


def find_configurations(experiment: Path) -> list[str]:
    """Return the configurations that a run may name: those in conf/ but for the shared default and runtime."""
    return sorted({path.stem for path in experiment.glob("conf/*.yaml") if path.is_file()} - {"default", "runtime"})


def is_experiment(folder: Path) -> bool:
    """Return whether a folder has an answers file of this template, damaged or not."""
    if not (folder / ANSWERS).is_file():
        return False
    text = (folder / ANSWERS).read_text(encoding="utf-8", errors="replace")
    return "experiment:" in text or "<<<<<<<" in text or "_src_path" not in text  # every template's file has that


def find_each(paths: list[str], find: Callable[[str], Experiment]) -> tuple[list[Experiment], dict[str, Problem]]:
    """Return the experiments at these paths and the problems of the other paths; without paths, all experiments.

    Raises Problem if nothing else is found.
    """
    if not paths:
        return find_all(), {}
    experiments: list[Experiment] = []
    problems: dict[str, Problem] = {}
    for path in paths:
        try:
            experiments.append(find(path))
        except Problem as problem:
            if len(paths) == 1:
                raise
            problems[path] = problem
    return experiments, problems


def find_all() -> list[Experiment]:
    """Return all experiments of this template in experiments/. Symlinks are not followed. Raises Problem."""
    repository = Repository.find(Path("."))
    folders = sorted(answers.parent for answers in repository.root.glob(f"experiments/*/{ANSWERS}"))
    found = [Experiment(folder, repository) for folder in folders if not folder.is_symlink() and is_experiment(folder)]
    if not found:
        raise Problem("experiments/ has no experiment of this template", "Pass a folder, or adopt one.")
    return found
