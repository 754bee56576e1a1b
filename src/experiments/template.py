"""A template: where it is fetched from, which versions it has, what it renders, and its grammar of runs."""

import json
import os
import re
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jinja2 import FileSystemLoader, StrictUndefined
from jinja2.sandbox import SandboxedEnvironment
from packaging.version import InvalidVersion, Version
from pathspec import GitIgnoreSpec

from experiments.errors import Problem, one_line, reason
from experiments.git import ask_git, isolated, run_git

ANSWERS = ".copier-answers.yml"

# The entry of a template's source in an answers file, which is several lines where YAML folds it.
SOURCE_ENTRY = re.compile(r"^_src_path:.*\n(?:[ \t].*\n)*", re.MULTILINE)

# What git is asked to fetch is written in a file that anybody may have committed. `ext::` and its like run commands.
PROTOCOLS = "file:git:http:https:ssh"

SECONDS = 300  # after which a template that is still at it is given up; it takes less than one

COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")

SHORT_FORMS = {"gh:": "https://github.com/", "gl:": "https://gitlab.com/"}


@dataclass(frozen=True)
class File:
    """A rendered file."""

    content: bytes
    executable: bool

    @property
    def mode(self) -> str:
        """As git writes it."""
        return "100755" if self.executable else "100644"


Files = dict[str, File]  # by their path in the experiment


@dataclass(frozen=True)
class Run:
    """A run, with every name that it has; see rules/runs.jinja of the template."""

    token: str
    script: str
    machine: str
    id: str
    sweeper: str
    config: str
    configurations: tuple[str, ...]  # files of conf/ without .yaml
    launcher: str  # a file of scripts/ without .slurm
    options: Mapping[str, Any]  # of sbatch

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "Run":
        names = ("token", "script", "machine", "id", "sweeper", "config", "launcher", "options")
        configurations = tuple(file["name"] for file in entry["configurations"])
        return cls(**{name: entry[name] for name in names}, configurations=configurations)

    @property
    def files(self) -> list[str]:
        """The files that this run has for itself."""
        return [*(f"conf/{name}.yaml" for name in self.configurations), f"scripts/{self.launcher}.slurm"]


@dataclass
class Release:
    """A version of a template, written to a folder without git: Copier renders it without a clone or a call of git."""

    version: str
    commit: str
    folder: Path

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Of copier.yml: those that this package needs."""
        text = (self.folder / "copier.yml").read_text(encoding="utf-8")
        loaded = yaml.load(text, Loader=CopierLoader)
        if not isinstance(loaded, dict):
            raise Problem(f"version {self.version} of its template has no settings in copier.yml")
        return loaded

    @cached_property
    def jinja(self) -> SandboxedEnvironment:
        """The filters that Copier has."""
        return SandboxedEnvironment(
            loader=FileSystemLoader(self.folder),
            undefined=StrictUndefined,
            extensions=["jinja2_ansible_filters.AnsibleCoreFiltersExtension"],
        )

    @cached_property
    def machines(self) -> dict[str, dict[str, Any]]:
        """Of its lab.yml."""
        try:
            lab = yaml.safe_load((self.folder / "lab.yml").read_text(encoding="utf-8"))
            return dict(lab["machines"])
        except (OSError, yaml.YAMLError, TypeError, KeyError, ValueError):
            raise Problem(f"version {self.version} of its template has no machines in lab.yml") from None

    def parse_runs(self, answers: Mapping[str, Any], runs: Any, new: bool = False) -> list[Run]:
        """The runs of an answer to `runs`, by the template's own grammar. Raises Problem with its message.

        `new` refuses machines that are retired.
        """
        call = "{% from 'rules/runs.jinja' import parsed %}{{ parsed(runs, experiment, machines, new, user_email) }}"
        machines = self.machines
        try:
            with time_limit():
                text = self.jinja.from_string(call).render(
                    runs=runs,
                    experiment=answers["experiment"],
                    machines=machines,
                    new=new,
                    user_email=answers.get("user_email") or "",
                )
            parsed = json.loads(text)
        except Exception as error:  # of a template that is not ours: whatever its rules raise
            raise Problem(f"version {self.version} of its template cannot read runs: {reason(error)}") from None
        if parsed["problem"]:
            raise Problem(parsed["problem"])
        return [Run.of(entry) for entry in parsed["runs"]]

    def people_own(self, answers: Mapping[str, Any]) -> GitIgnoreSpec:
        """The files that an update leaves alone: what `_exclude` names for Copier's operation `update`."""
        lines = []
        with time_limit():
            for pattern in self.settings.get("_exclude") or []:
                text = self.jinja.from_string(pattern).render(_copier_operation="update", **public(answers))
                lines += text.splitlines()
        return GitIgnoreSpec.from_lines(lines)

    def fixed_scripts(self) -> list[str]:
        """The files of scripts/ that it gives to every experiment."""
        top = self.folder / self.settings.get("_subdirectory", "")
        names = sorted(path.relative_to(top).as_posix() for path in (top / "scripts").rglob("*") if path.is_file())
        return [name.removesuffix(".jinja") for name in names if "{" not in name and not name.endswith("__init__.py")]


@contextmanager
def time_limit() -> Iterator[None]:
    """Raises Problem in what takes too long; in the main thread, where all of this package works, workers included."""

    def give_up(number: int, frame: object) -> NoReturn:
        raise Problem(f"it took more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class CopierLoader(yaml.SafeLoader):
    """Reads copier.yml, whose !include is not needed here."""


CopierLoader.add_constructor("!include", lambda loader, node: None)


def public(answers: Mapping[str, Any]) -> dict[str, Any]:
    """Without what Copier itself records."""
    return {name: value for name, value in answers.items() if not str(name).startswith("_")}


def render(folder: Path, version: str, answers: Mapping[str, Any], first: bool = False) -> Files:
    """What a version of a template, in a folder, renders for answers. Raises Problem with Copier's reason.

    first  whether it is a first copy, with what exists on that only

    It runs in a worker, too: what it is given and gives back can be sent to one.
    """
    import copier  # not above: it takes half a second, which commands that render nothing do without

    data = public(answers) | {"exp_new": False, "exp_first_copy": first}
    with tempfile.TemporaryDirectory(prefix="render-") as rendered:
        settings = copier.Settings()
        try:
            with time_limit():
                copier.run_copy(
                    str(folder), rendered, data=data, defaults=True, quiet=True, unsafe=False, settings=settings
                )
        except Exception as error:
            raise Problem(f"{version}: {copier_reason(error)}") from None
        files = {}
        for path in sorted(Path(rendered).rglob("*")):
            name = path.relative_to(rendered).as_posix()
            if ".git" in name.lower().split("/"):
                raise Problem(f"version {version} of its template renders {name}, which is git's own")
            if path.is_file():
                files[name] = File(path.read_bytes(), os.access(path, os.X_OK))
    return files


def copier_reason(error: Exception) -> str:
    """What Copier says, in one line."""
    text = one_line(str(error)) or type(error).__name__
    invalid = re.match(r"Validation error for question '(\w+)': (.*)", text)
    return f"its answer to {invalid[1]} is not valid: {invalid[2]}" if invalid else text


def stamp(text: str, version: str, commit: str, source: str) -> str:
    """An answers file as Copier writes it for a template in git: with version, commit and source, which is an entry."""
    entries = {"_commit": version} | ({"_commit_id": commit} if commit else {})
    return SOURCE_ENTRY.sub(lambda _: yaml.safe_dump(entries) + source, text, count=1)


def fetched_from(source: Any) -> str:
    """What git clones for the source of an answers file, as Copier reads it. Raises Problem for what is no source."""
    if not isinstance(source, str) or not source or not source.isprintable():
        raise Problem("its template's source is no text in one line")
    url = source
    for short, site in SHORT_FORMS.items():
        if url.startswith(short):
            url = site + url.removeprefix(short).lstrip("/")
    url = url.removeprefix("git+")
    if url.startswith("-") or re.match(r"[A-Za-z0-9+.-]+::", url):
        raise Problem(f"its template's source is {url}, which is no address")
    if url.startswith(tuple(SHORT_FORMS.values())) and not url.endswith(".git"):
        url += ".git"
    return os.path.expanduser(url)


@dataclass
class Template:
    """A clone of a template, for all experiments that name it."""

    source: str
    folder: Path  # which somebody removes at the end
    commits: dict[str, str] = field(default_factory=dict)  # ids by the names that were asked for
    releases: dict[str, Release] = field(default_factory=dict)  # by the ids of their commits

    @classmethod
    def fetch(cls, source: Any, folder: Path) -> "Template":
        """Clone it to a folder. Raises Problem where that fails, or takes too long."""
        template = cls(fetched_from(source), folder)
        clone = ("clone", "--quiet", "--bare", "--template=", "--", template.source)
        try:
            run_git(".", *clone, template.git_folder, environment=permitted())
        except Problem as problem:
            raise Problem(f"its template cannot be fetched: {problem}") from None
        return template

    @property
    def git_folder(self) -> Path:
        return self.folder / "template.git"

    def find_commit(self, ref: str) -> str:
        """The id of the commit of a tag, a branch or a commit. Raises Problem."""
        if ref not in self.commits:
            self.commits[ref] = self.ask_for_commit(ref)
        return self.commits[ref]

    def ask_for_commit(self, ref: str) -> str:
        with suppress(Problem):  # git knows what it describes, like v1.0.0-2-g1a2b3c4, and takes a tag before a branch
            return self.ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
        newest = sorted(self.versions, key=Version, reverse=True)[:3]
        raise Problem(f"its template has no {ref}", f"it has {', '.join(newest)}" if newest else "")

    def find_recorded(self, version: str, commit: str) -> str:
        """The id of the commit that an experiment has, whatever its tag names by now. Raises Problem.

        commit  as it was recorded; nothing where it was not
        """
        if not COMMIT.fullmatch(commit):
            return self.find_commit(version)
        with suppress(Problem):
            return self.find_commit(commit)
        with suppress(Problem):  # most servers keep what no branch has any more, and give it by its id
            run_git(
                self.git_folder, "fetch", "--quiet", "--no-tags", "--", self.source, commit, environment=permitted()
            )
            return self.find_commit(commit)
        now = self.find_commit(version)
        raise Problem(
            f"{version} of its template was moved from {commit[:10]}, which is gone, to {now[:10]}",
            f"from a clone that has it: `git push --force origin {commit[:10]}:refs/tags/{version}`",
        )

    def has(self, version: str, commit: str) -> bool:
        """Whether a version still is the name of a commit."""
        with suppress(Problem):
            return self.find_commit(version) == commit
        return False

    def newer_than(self, version: str, commit: str) -> str:
        """The newest release, if an experiment of a commit does not have it; `version` is what that was called."""
        newest = self.newest()
        if self.is_before(self.find_commit(newest), commit):
            return ""
        return f"{newest}, which was moved" if newest == version else newest

    def newest(self) -> str:
        """The newest release, as Copier takes it: by PEP 440, without those before a release; HEAD if there is none."""
        final = [tag for tag in self.versions if not Version(tag).is_prerelease]
        return max(final, key=Version, default="HEAD")

    @cached_property
    def versions(self) -> list[str]:
        """The tags that are versions by PEP 440."""
        return [tag for tag in self.ask("tag").splitlines() if is_version(tag)]

    def release(self, commit: str) -> Release:
        """The version of a commit, written to a folder once."""
        if commit not in self.releases:
            version = self.ask("describe", "--tags", "--always", commit)
            folder = self.folder / commit
            self.export(commit, folder)
            self.releases[commit] = Release(version, commit, folder)
        return self.releases[commit]

    def export(self, commit: str, folder: Path) -> None:
        """Write a commit's files to a folder, by the index and not by `git archive`, which obeys export-ignore."""
        environment = isolated() | {
            "GIT_DIR": str(self.git_folder),
            "GIT_INDEX_FILE": f"{folder}.index",
            "GIT_WORK_TREE": str(folder),
        }
        folder.mkdir()
        run_git(folder, "read-tree", commit, environment=environment)
        run_git(folder, "checkout-index", "--all", environment=environment)

    def is_before(self, one: str, other: str) -> bool:
        """Whether the commit `one` is an ancestor of `other`, or the same."""
        return run_git(self.git_folder, "merge-base", one, other, accept=(0, 1)).decode().strip() == one

    def ask(self, *arguments: str) -> str:
        return ask_git(self.git_folder, *arguments)


def is_version(tag: str) -> bool:
    try:
        Version(tag)
    except InvalidVersion:
        return False
    return True


def permitted() -> dict[str, str]:
    """The environment in which git fetches: the user's, but for what runs commands, or asks for a password."""
    return dict(os.environ) | {"GIT_ALLOW_PROTOCOL": PROTOCOLS, "GIT_TERMINAL_PROMPT": "0"}
