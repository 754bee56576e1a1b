"""A template: its clone, its versions, what they render, and their rules for runs."""

import json
import os
import re
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import yaml
from packaging.version import InvalidVersion, Version

from experiments.errors import Problem, reason
from experiments.git import EXECUTABLE, REGULAR, ask_git, isolated, run_git

if TYPE_CHECKING:
    import jinja2
    from jinja2.sandbox import SandboxedEnvironment
    from pathspec import GitIgnoreSpec

ANSWERS = ".copier-answers.yml"
OWN_FILES = "own_files"  # the entry of the answers file with the instructions that are the user's
INSTRUCTIONS = ("AGENTS.md", "CLAUDE.md")  # for people and agents, in the folder of an experiment

# The entry of the source in an answers file. YAML may fold it into several lines.
SOURCE_ENTRY = re.compile(r"^_src_path:.*\n(?:[ \t].*\n)*", re.MULTILINE)

# The source comes from a committed file, so it may be hostile: git runs commands for `ext::` and similar sources.
PROTOCOLS = "file:git:http:https:ssh"

SECONDS = 300  # the time that rendering may take, usually less than one second

YIELD = re.compile(r"{% yield (\w+) from (.+?) %}(.*){% endyield %}(.*)")  # in a part of a path

COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")

SHORT_FORMS = {"gh:": "https://github.com/", "gl:": "https://gitlab.com/"}


@dataclass(frozen=True)
class File:
    """A rendered or committed file, with its mode in git."""

    content: bytes
    mode: str = REGULAR

    @property
    def executable(self) -> bool:
        return self.mode == EXECUTABLE


Files = dict[str, File]  # by their path in the experiment


@dataclass(frozen=True)
class Run:
    """A run with all its names, as rules/runs.jinja of the template gives them."""

    token: str
    script: str
    machine: str
    id: str
    sweeper: str
    config: str
    configurations: tuple[str, ...]  # files of conf/ without .yaml
    launcher: str  # a file of scripts/ without .slurm
    options: Mapping[str, Any]  # of sbatch
    plain: str = ""  # the folder of the runs of a script without Hydra

    @classmethod
    def parse(cls, entry: Mapping[str, Any]) -> "Run":
        names = ("token", "script", "machine", "id", "sweeper", "config", "launcher", "options")
        configurations = tuple(file["name"] for file in entry["configurations"])
        values = {name: entry[name] for name in names}
        return cls(**values, configurations=configurations, plain=entry.get("plain", ""))

    @property
    def files(self) -> list[str]:
        """The files that belong to this run alone."""
        return [*(f"conf/{name}.yaml" for name in self.configurations), f"scripts/{self.launcher}.slurm"]


@dataclass
class Release:
    """A version of a template, in a folder without .git, which Copier renders without cloning it."""

    version: str
    commit: str
    folder: Path
    compiled: "dict[str, jinja2.Template]" = field(default_factory=dict)  # by their text
    plans: dict[str, dict[str, Any]] = field(default_factory=dict)  # by the answers, as JSON

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The settings and questions of copier.yml."""
        text = (self.folder / "copier.yml").read_text(encoding="utf-8")
        loaded = yaml.load(text, Loader=CopierLoader)
        if not isinstance(loaded, dict):
            raise Problem(f"version {self.version} of its template has no settings in copier.yml")
        return loaded

    @cached_property
    def jinja(self) -> "SandboxedEnvironment":
        """An environment with Copier's filters."""
        from jinja2 import FileSystemLoader, StrictUndefined  # a list renders nothing, and they take a moment to load
        from jinja2.sandbox import SandboxedEnvironment

        return SandboxedEnvironment(
            loader=FileSystemLoader(self.folder),
            undefined=StrictUndefined,
            optimized=False,  # folding constants takes longer than it saves
            auto_reload=False,  # the folder of a release never changes
            extensions=["jinja2_ansible_filters.AnsibleCoreFiltersExtension"],
        )

    @cached_property
    def lab(self) -> dict[str, Any]:
        """The content of lab.yml."""
        try:
            lab = yaml.safe_load((self.folder / "lab.yml").read_text(encoding="utf-8"))
            return dict(lab, machines=dict(lab["machines"]))
        except (OSError, yaml.YAMLError, TypeError, KeyError, ValueError):
            raise Problem(f"version {self.version} of its template has no machines in lab.yml") from None

    @property
    def machines(self) -> dict[str, dict[str, Any]]:
        """The machines of lab.yml."""
        machines: dict[str, dict[str, Any]] = self.lab["machines"]
        return machines

    def parse_runs(self, answers: Mapping[str, Any], runs: Any, new: bool = False) -> list[Run]:
        """Return the runs of an answer to `runs`, by the template's own rules. Raises Problem with their message.

        new  refuse retired machines
        """
        return [Run.parse(entry) for entry in self.parse_plan(answers, runs, new)["runs"]]

    def parse_plan(self, answers: Mapping[str, Any], runs: Any, new: bool = False) -> dict[str, Any]:
        """Return everything that rules/runs.jinja states about an answer to `runs`. Raises Problem with its message."""
        call = "{% from 'rules/runs.jinja' import parsed %}{{ parsed(runs, experiment, machines, new, user_email) }}"
        values = {
            "runs": runs,
            "experiment": answers["experiment"],
            "new": new,
            "user_email": answers.get("user_email") or "",
        }
        machines = self.machines
        try:
            key = json.dumps(values, default=str)
            if key not in self.plans:
                self.plans[key] = json.loads(self.evaluate(call, machines=machines, **values))
            plan = self.plans[key]
        except Exception as error:  # the rules may be of any template, and raise anything
            raise Problem(f"version {self.version} of its template cannot read runs: {reason(error)}") from None
        if plan["problem"]:
            raise Problem(plan["problem"])
        return plan

    def evaluate(self, text: str, **values: Any) -> str:
        """Return the rendered text of a Jinja template."""
        if text not in self.compiled:
            self.compiled[text] = self.jinja.from_string(text)
        with time_limit():
            return self.compiled[text].render(values)

    def package_around(self, folder: Path) -> str:
        """Return the default of the question `package` for an experiment in a folder."""
        call = "{% from 'rules/places.jinja' import package_around %}{{ package_around(folder, package) }}"
        return self.evaluate(call, folder=str(folder), package=self.lab["package"])

    def file_names(self, answers: Mapping[str, Any]) -> list[str]:
        """Return the names of the files that a first copy renders. Copier itself takes a hundred times longer.

        Like Copier, this renders each part of a path, and leaves a file out if a part is empty.
        """
        values = without_private(answers) | {"exp_first_copy": True, "_copier_conf": {"answers_file": ANSWERS}}
        values["exp_plan"] = self.parse_plan(answers, answers["runs"])
        values["exp_own_files"] = recorded_own_files(answers)
        names = [path for path in self.paths if "{" not in path]
        for path in self.paths[len(names) :]:
            parts = [self.render_part(part, values) for part in path.split("/")]
            names += ["/".join(choice) for choice in product(*parts) if all(choice)]
        return sorted(names)

    @cached_property
    def paths(self) -> list[str]:
        """The paths of the files that are rendered, without .jinja. Those that name variables are last."""
        files = [path.relative_to(self.top) for path in self.top.rglob("*") if path.is_file()]
        paths = ["/".join(part.removesuffix(".jinja") for part in path.parts) for path in files]
        return sorted(paths, key=lambda path: "{" in path)

    def own_files(self, folder: Path, answers: Mapping[str, Any]) -> list[str]:
        """Return the instructions that users wrote: recorded ones, and those in a folder that this version lacks."""
        recorded = recorded_own_files(answers)
        lacking = [name for name in INSTRUCTIONS if not any(self.top.glob(f"*{name}*"))]
        return [*recorded, *(name for name in lacking if name not in recorded and os.path.lexists(folder / name))]

    def render_part(self, part: str, values: Mapping[str, Any]) -> list[str]:
        """Return what a part of a path becomes: one name, or several of a `yield`; Copier omits an empty one."""
        loop = YIELD.fullmatch(part)
        if not loop:
            return [self.evaluate(part, **values) if "{" in part else part]
        name, items, body, rest = loop.groups()
        names = self.evaluate(f"{{% for {name} in {items} %}}{body}{rest}/{{% endfor %}}", **values)
        return names.split("/")[:-1]

    def user_owned(self, answers: Mapping[str, Any]) -> "GitIgnoreSpec":
        """Return the patterns of the files that no update touches: `_exclude` for Copier's operation `update`."""
        from pathspec import GitIgnoreSpec  # only updates need it

        lines = []
        with time_limit():
            for pattern in self.settings.get("_exclude") or []:
                text = self.jinja.from_string(pattern).render(_copier_operation="update", **without_private(answers))
                lines += text.splitlines()
        return GitIgnoreSpec.from_lines(lines)

    def fixed_scripts(self) -> list[str]:
        """Return the files of scripts/ that every experiment has."""
        scripts = self.top / "scripts"
        names = sorted(path.relative_to(self.top).as_posix() for path in scripts.rglob("*") if path.is_file())
        return [name.removesuffix(".jinja") for name in names if "{" not in name and name != "scripts/__init__.py"]

    def library(self) -> dict[str, bytes]:
        """Return the files of scripts/runtime/ that are the same in every experiment, with their contents."""
        files = sorted(path for path in (self.top / "scripts/runtime").glob("*.*") if path.suffix in (".py", ".sh"))
        return {path.relative_to(self.top).as_posix(): path.read_bytes() for path in files}

    @property
    def top(self) -> Path:
        """The folder that is rendered."""
        return self.folder / str(self.settings.get("_subdirectory", ""))


@contextmanager
def time_limit() -> Iterator[None]:
    """Raise Problem in code that takes too long. It must run in the main thread, as all of this package does."""

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
    """Load copier.yml without its !include."""


CopierLoader.add_constructor("!include", lambda loader, node: None)


def recorded_own_files(answers: Mapping[str, Any]) -> list[str]:
    """Return the instructions that an answers file records as the user's. It may have been edited."""
    recorded = answers.get(OWN_FILES)
    return [name for name in INSTRUCTIONS if name in recorded] if isinstance(recorded, list) else []


def without_private(answers: Mapping[str, Any]) -> dict[str, Any]:
    """Return answers without Copier's own entries."""
    return {name: value for name, value in answers.items() if not str(name).startswith("_")}


def render(folder: Path, version: str, answers: Mapping[str, Any], around: Path | None = None) -> Files:
    """Return the files that a version of a template renders. Workers call it too. Raises Problem with Copier's message.

    around  the repository of a new experiment: the defaults of questions look into it; None for another version
    """
    import copier  # it takes half a second, which commands that render nothing save
    from plumbum import local

    data = without_private(answers) | {"exp_new": False, "exp_first_copy": around is not None}
    with tempfile.TemporaryDirectory(prefix="render-") as root:
        rendered = Path(root, "experiments", "rendered")
        for path in around.glob("[!.]*") if around else ():
            if path.name != "experiments":
                Path(root, path.name).symlink_to(path)
        settings = copier.Settings()
        try:
            # Copier would run git for each file. No folder here is a repository, so it does not need any program.
            with time_limit(), compile_once(), local.env(PATH=""):
                copier.run_copy(
                    str(folder), rendered, data=data, defaults=True, quiet=True, unsafe=False, settings=settings
                )
        except Exception as error:
            raise Problem(f"{version}: {copier_reason(error)}") from None
        return read_files(rendered, version)


COMPILED: dict[tuple[Any, ...], Any] = {}  # the results of `compile_once`, in this process


@contextmanager
def compile_once() -> Iterator[None]:
    """Compile each text of Jinja once in this process. Copier does that for every render, in half of its time."""
    from jinja2 import Environment

    compile_anew: Any = Environment.compile

    def compile_new(
        environment: Any, source: Any, name: str | None = None, filename: str | None = None, *options: Any
    ) -> Any:
        if "{% yield" in source:  # Copier's extension records these while it compiles
            return compile_anew(environment, source, name, filename, *options)
        key = (type(environment), environment.lexer, *environment.extensions, source, name, *options)
        if key in COMPILED:
            environment.preprocess(source, name, filename)  # resets that extension
        else:
            COMPILED[key] = compile_anew(environment, source, name, filename, *options)
        return COMPILED[key]

    Environment.compile = compile_new  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        Environment.compile = compile_anew  # type: ignore[method-assign]


def read_files(rendered: Path, version: str) -> Files:
    files = {}
    for path in sorted(rendered.rglob("*")):
        name = path.relative_to(rendered).as_posix()
        if ".git" in name.lower().split("/"):
            raise Problem(f"version {version} of its template renders {name}, which is reserved for git")
        if path.is_file():
            files[name] = File(path.read_bytes(), EXECUTABLE if os.access(path, os.X_OK) else REGULAR)
    return files


def copier_reason(error: Exception) -> str:
    """Return Copier's message in one line."""
    text = reason(error)
    invalid = re.match(r"Validation error for question '(\w+)': (.*)", text)
    return f"its answer to {invalid[1]} is not valid: {invalid[2]}" if invalid else text


def stamp_answers(text: str, version: str, commit: str, source_entry: str) -> str:
    """Return an answers file as Copier writes it for a template in git: with version, commit and source."""
    entries = {"_commit": version} | ({"_commit_id": commit} if commit else {})
    return SOURCE_ENTRY.sub(lambda _: yaml.safe_dump(entries) + source_entry, text, count=1)


def clone_url(source: Any) -> str:
    """Return the URL to clone for the source of an answers file, by Copier's rules. Raises Problem."""
    if not isinstance(source, str) or not source or not source.isprintable():
        raise Problem("its template's source is not a single line")
    url = source
    for short, site in SHORT_FORMS.items():
        if url.startswith(short):
            url = site + url.removeprefix(short).lstrip("/")
    url = url.removeprefix("git+")
    if url.startswith("-") or re.match(r"[A-Za-z0-9+.-]+::", url):
        raise Problem(f"its template's source is not a valid address: {url}")
    if url.startswith(tuple(SHORT_FORMS.values())) and not url.endswith(".git"):
        url += ".git"
    return os.path.expanduser(url)


@dataclass
class Template:
    """A clone of a template, for all experiments that name it."""

    source: str
    folder: Path  # the caller removes it
    commits: dict[str, str] = field(default_factory=dict)  # ids by the names that were asked for
    releases: dict[str, Release] = field(default_factory=dict)  # by the ids of their commits
    ancestries: dict[tuple[str, str], bool] = field(default_factory=dict)  # the answers of `is_before`

    @classmethod
    def fetch(cls, source: Any, folder: Path) -> "Template":
        """Clone a template to a folder. A repository on this machine lends its objects. Raises Problem."""
        template = cls(clone_url(source), folder)
        clone = ("clone", "--quiet", "--bare", "--shared", "--template=", "--", template.source)
        try:
            run_git(".", *clone, template.git_folder, environment=fetch_environment())
        except Problem as problem:
            raise Problem(f"its template cannot be fetched: {problem}") from None
        return template

    @property
    def git_folder(self) -> Path:
        return self.folder / "template.git"

    def find_commit(self, ref: str) -> str:
        """Return the id of the commit of a tag, a branch or a commit. Raises Problem."""
        with suppress(Problem):  # git takes a tag before a branch, and a description too, like v1.0.0-2-g1a2b3c4
            if ref not in self.commits:
                words = ("--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
                self.commits[ref] = self.ask("rev-parse", *words)
            return self.commits[ref]
        newest = sorted(self.versions, key=Version, reverse=True)[:3]
        raise Problem(f"its template has no {ref}", f"Its newest versions are {', '.join(newest)}." if newest else "")

    def find_recorded(self, version: str, commit: str) -> str:
        """Return the id of the commit that an experiment has, even if its tag was moved since. Raises Problem.

        commit  the recorded id; empty if there is none
        """
        if not COMMIT.fullmatch(commit):
            return self.find_commit(version)
        with suppress(Problem):
            return self.find_commit(commit)
        with suppress(Problem):  # most servers still send a commit by its ID after its branch is deleted
            fetch = ("fetch", "--quiet", "--no-tags", "--", self.source, commit)
            run_git(self.git_folder, *fetch, environment=fetch_environment())
            return self.find_commit(commit)
        now = self.find_commit(version)
        raise Problem(
            f"{version} of its template was moved from {commit[:10]}, which no longer exists, to {now[:10]}",
            f"In a clone that has this commit, run `git push --force origin {commit[:10]}:refs/tags/{version}`.",
        )

    def has_commit(self, commit: str) -> bool:
        """Return whether this clone has a commit, given by its id."""
        with suppress(Problem):
            return bool(COMMIT.fullmatch(commit)) and self.find_commit(commit) == commit
        return False

    def is_named(self, commit: str, version: str) -> bool:
        """Return whether a commit still has the name of a version."""
        with suppress(Problem):
            return self.find_commit(version) == commit
        return False

    def newer_than(self, version: str, commit: str) -> str:
        """Return the newest release if a commit, recorded as `version`, does not contain it; else an empty string."""
        newest = self.newest()
        if self.is_before(self.find_commit(newest), commit):
            return ""
        return f"{newest}, which was moved" if newest == version else newest

    def newest(self) -> str:
        """Return the newest release by Copier's rules: the highest final version of PEP 440; HEAD if there is none."""
        final = [tag for tag in self.versions if not Version(tag).is_prerelease]
        return max(final, key=Version, default="HEAD")

    @cached_property
    def versions(self) -> list[str]:
        """The tags that are versions of PEP 440."""
        return [tag for tag in self.ask("tag").splitlines() if is_version(tag)]

    def release(self, commit: str) -> Release:
        """Return the version of a commit. It is exported to a folder once."""
        if commit not in self.releases:
            version = self.ask("describe", "--tags", "--always", commit)
            folder = self.folder / commit
            self.export(commit, folder)
            self.releases[commit] = Release(version, commit, folder)
        return self.releases[commit]

    def export(self, commit: str, folder: Path) -> None:
        """Write a commit's files to a folder. Unlike `git archive`, an index ignores export-ignore."""
        environment = isolated() | {
            "GIT_DIR": str(self.git_folder),
            "GIT_INDEX_FILE": f"{folder}.index",
            "GIT_WORK_TREE": str(folder),
        }
        folder.mkdir()
        run_git(folder, "read-tree", commit, environment=environment)
        run_git(folder, "checkout-index", "--all", environment=environment)

    def is_before(self, one: str, other: str) -> bool:
        """Return whether a commit is an ancestor of another, or the same."""
        if (one, other) not in self.ancestries:
            base = run_git(self.git_folder, "merge-base", one, other, accept=(0, 1)).decode().strip()
            self.ancestries[one, other] = base == one
        return self.ancestries[one, other]

    def ask(self, *arguments: str) -> str:
        return ask_git(self.git_folder, *arguments)


def is_version(tag: str) -> bool:
    try:
        Version(tag)
    except InvalidVersion:
        return False
    return True


def fetch_environment() -> dict[str, str]:
    """Return the environment for fetching: the user's, without protocols that run commands, and without prompts."""
    return dict(os.environ) | {"GIT_ALLOW_PROTOCOL": PROTOCOLS, "GIT_TERMINAL_PROMPT": "0"}
