"""An experiment: its folder, its repository, its recorded answers and its template."""

import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from experiments.errors import Problem, one_line
from experiments.git import Blob, Repository
from experiments.template import ANSWERS, SOURCE_ENTRY, Release, Template

REQUIRED = {"_src_path", "_commit", "experiment", "runs"}


@dataclass(frozen=True)
class Answers:
    """An answers file."""

    text: str
    values: Mapping[str, Any]

    @classmethod
    def of(cls, text: str, name: str) -> "Answers":
        """Read the text of an answers file. Raises Problem, with the file's name, where it is not of this template."""
        values = None
        with suppress(yaml.YAMLError, ValueError, RecursionError):
            values = yaml.safe_load(text)
        if not isinstance(values, dict) or not values.keys() >= REQUIRED or not isinstance(values["runs"], dict):
            raise Problem(f"{name} is not of this template, or has conflicts")
        return cls(text, values)

    @property
    def version(self) -> str:
        return one_line(str(self.values["_commit"]))

    @property
    def commit(self) -> str:
        """The id of that version's commit; nothing where it is not recorded."""
        return str(self.values.get("_commit_id") or "")

    @property
    def source(self) -> Any:
        """As it is recorded: what anybody may have written."""
        return self.values["_src_path"]

    def misnamed(self, folder: Path) -> str:
        """What is wrong with a folder whose files were rendered for an experiment of another name, or nothing."""
        if self.values["experiment"] == folder.name:
            return ""
        rename = ["copier", "update", "--defaults", "-d", f"experiment={folder.name}", os.path.relpath(folder)]
        return f"is of the experiment {self.values['experiment']}, as its files are; rename them: {shlex.join(rename)}"

    @property
    def source_entry(self) -> str:
        """The lines of the file that record it."""
        found = SOURCE_ENTRY.search(self.text)
        return found[0] if found else yaml.safe_dump({"_src_path": self.source})


@dataclass
class Experiment:
    """The folder of one experiment, whatever is in it."""

    path: Path
    repository: Repository

    @classmethod
    def at(cls, path: str | Path) -> "Experiment":
        """The experiment of a folder that has an answers file. Raises Problem."""
        folder = Path(path).resolve()
        if not (folder / ANSWERS).is_file():
            may_be_one = folder.is_dir() and folder.parent.name == "experiments"
            raise Problem(
                f"{path} has no {ANSWERS}, so it is no experiment of a template",
                f"`experiments adopt {shlex.quote(str(path))}` makes it one" if may_be_one else "",
            )
        return cls(folder, Repository.of(folder))

    @property
    def name(self) -> str:
        """Its path as a person types it, from the current directory."""
        return os.path.relpath(self.path)

    @property
    def relative(self) -> str:
        """Its path in the repository."""
        return self.path.relative_to(self.repository.root).as_posix()

    @property
    def title(self) -> str:
        """What a commit calls it."""
        return self.path.name if self.relative == "." else self.relative

    def tracked(self, name: str) -> str:
        """The path in the repository of one of its files. It may be a repository of its own, as a submodule is."""
        return name if self.relative == "." else f"{self.relative}/{name}"

    def committed(self) -> dict[str, Blob]:
        """Its files in the last commit, by their path in it."""
        return self.repository.committed(self.tracked(""))

    def answers(self) -> Answers:
        """The recorded answers, in the working tree."""
        name = f"{self.name}/{ANSWERS}"
        try:
            return Answers.of((self.path / ANSWERS).read_text(encoding="utf-8"), name)
        except UnicodeDecodeError:
            raise Problem(f"{name} is not of this template, or has conflicts") from None

    def lock(self) -> AbstractContextManager[None]:
        """One command at a time works on it."""
        return self.repository.lock(self.relative)


@dataclass
class Templates:
    """The templates that experiments name, each fetched once."""

    folder: Path
    fetched: dict[str, Template | Problem] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def kept(cls) -> Iterator["Templates"]:
        """Templates in a folder that is removed in the end."""
        with TemporaryDirectory(prefix="templates-") as folder:
            yield cls(Path(folder))

    def get(self, source: Any) -> Template:
        """Raises Problem, for each experiment that names what cannot be fetched."""
        key = str(source)
        if key not in self.fetched:
            self.fetched[key] = self.fetch(source)
        found = self.fetched[key]
        if isinstance(found, Problem):
            raise found
        return found

    def fetch(self, source: Any) -> Template | Problem:
        folder = self.folder / str(len(self.fetched))
        folder.mkdir()
        try:
            return Template.fetch(source, folder)
        except Problem as problem:
            return problem

    def recorded(self, answers: Answers) -> Release:
        """The version of its template that an experiment has."""
        template = self.get(answers.source)
        return template.release(template.find_recorded(answers.version, answers.commit))


def is_experiment(folder: Path) -> bool:
    """Whether a folder has an answers file of this template, whole or not."""
    if not (folder / ANSWERS).is_file():
        return False
    text = (folder / ANSWERS).read_text(encoding="utf-8", errors="replace")
    return "experiment:" in text or "<<<<<<<" in text or "_src_path" not in text  # which each template's has


def find_each(paths: list[str], find: Callable[[str], Experiment]) -> tuple[list[Experiment], dict[str, Problem]]:
    """What is found at these paths, and why nothing is at others, as of a pattern of the shell.

    Raises Problem for the only one.
    """
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


def find_experiments(paths: list[str]) -> list[Experiment]:
    """The experiments at these paths; without any, all of this template under experiments/, links not followed."""
    if paths:
        return [Experiment.at(path) for path in paths]
    repository = Repository.of(Path("."))
    folders = sorted(answers.parent for answers in repository.root.glob(f"experiments/*/{ANSWERS}"))
    found = [Experiment(folder, repository) for folder in folders if not folder.is_symlink() and is_experiment(folder)]
    if not found:
        raise Problem("there is no experiment of this template under experiments/", "name a folder, or adopt one")
    return found
