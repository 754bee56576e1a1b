"""Compare the code of a figure with the repository: stale, dirty or unknown. Time stamps are never used."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from experiments.checks.configurations import bases_of
from experiments.errors import Problem, one_line
from experiments.experiment import Answers, Experiment
from experiments.figure_metadata import INTERACTIVE
from experiments.git import GitError, Repository, run_git
from experiments.template import ANSWERS

COMMIT = re.compile(r"([0-9a-f]{7,64})(-dirty)?")
SCRIPT = re.compile(r"experiments/([^/]+)/(.+)")
NAMES = ("stale", "dirty", "unknown")


@dataclass(frozen=True)
class Mark:
    """A mark of a figure, one of NAMES, and its reason, worded as the end of a sentence."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


@dataclass
class Code:
    """The paths of an experiment's code, relative to its repository."""

    folder: Path
    repository: Repository
    prefix: str  # experiments/NAME/, or empty if the experiment is a repository of its own
    package: str = ""  # like torchcell/

    @classmethod
    def find(cls, root: Repository, name: str) -> "Code":
        folder = root.root / "experiments" / name
        repository = Repository.find(folder) if (folder / ".git").exists() else root
        experiment = Experiment(folder, repository)
        return cls(folder, repository, experiment.tracked(""), find_package(experiment))

    def configurations(self, config: str) -> set[str]:
        """Return the files of a configuration: its own, and those that its defaults name."""
        conf = self.folder / "conf"
        name = config if (conf / f"{config}.yaml").is_file() else config.partition(".")[0]  # of CONFIG.NAME
        found: set[Path] = set()
        new = [conf / f"{name}.yaml"] if name else []
        while new:
            path = new.pop()
            if path not in found:
                found.add(path)
                new.extend(bases_of(path, conf))
        inside = (path for path in found if path.is_relative_to(self.folder))
        return {f"{self.prefix}{path.relative_to(self.folder).as_posix()}" for path in inside}


def find_package(experiment: Experiment) -> str:
    """Return the folder of the lab's package in the repository, like src/torchcell/; empty if there is none."""
    try:
        text = (experiment.path / ANSWERS).read_text(encoding="utf-8", errors="replace")
        top = str(Answers.parse(text, ANSWERS).values.get("package") or "").partition(".")[0]
    except (OSError, Problem):
        return ""
    folders = [top, f"src/{top}"] if top else []
    return next((f"{folder}/" for folder in folders if (experiment.repository.root / folder).is_dir()), "")


@dataclass
class CodeState:
    """Compute the marks of figures in a repository. Git compares each commit once, and many commits in one process."""

    repository: Repository
    codes: dict[str, Code] = field(default_factory=dict)
    differences: dict[tuple[Path, str], list[str] | None] = field(default_factory=dict)
    ancestors: dict[tuple[Path, str], bool] = field(default_factory=dict)
    sources: dict[tuple[str, str], set[str]] = field(default_factory=dict)

    def marks(self, metadata: Mapping[str, str]) -> list[Mark]:
        """Return what is wrong with a figure that has this metadata; nothing if its code is committed and current."""
        return list(self.find_marks(metadata))

    def find_marks(self, metadata: Mapping[str, str]) -> Iterator[Mark]:
        script, commit = metadata.get("Script", ""), COMMIT.fullmatch(metadata.get("Commit", ""))
        if not script or "Commit" not in metadata:
            yield Mark("unknown", "its metadata has no script or no commit")
            return
        if script == INTERACTIVE:
            yield Mark("unknown", "an interactive session made it, not a script")
            return
        if not commit:
            yield Mark("unknown", "its commit was not recorded")
            return
        found = SCRIPT.fullmatch(script)
        code = self.code(found[1]) if found else Code(self.repository.root, self.repository, "")
        if script.startswith("/"):
            yield Mark("unknown", f"its script {one_line(script)} is outside the repository")
            return
        changed = self.changed(code.repository, commit[1])
        if changed is None:
            yield Mark("unknown", f"its commit {commit[1][:8]} is not in this repository")
            return
        if commit[2]:
            yield Mark("dirty", f"it was made from uncommitted changes of {commit[1][:8]}")
            if self.is_ancestor(code.repository, commit[1]):
                return  # its changes are in no commit, so they cannot be compared
        wanted = {f"{code.prefix}{found[2]}" if found else script}
        wanted |= self.configurations(found[1], metadata.get("Configuration", "")) if found else set()
        names = [name for name in changed if name in wanted or (code.package and name.startswith(code.package))]
        if names:
            more = f" and {len(names) - 1} more files" if len(names) > 2 else f" and {names[1]}" if names[1:] else ""
            verb = "differ" if more else "differs"
            yield Mark("stale", one_line(f"{names[0]}{more} {verb} from {commit[1][:8]}"))

    def code(self, name: str) -> Code:
        if name not in self.codes:
            self.codes[name] = Code.find(self.repository, name)
        return self.codes[name]

    def configurations(self, name: str, config: str) -> set[str]:
        if (name, config) not in self.sources:
            self.sources[name, config] = self.code(name).configurations(config)
        return self.sources[name, config]

    def changed(self, repository: Repository, commit: str) -> list[str] | None:
        """Return the files of the working tree that differ from a commit; None if the commit is not here."""
        if (repository.root, commit) not in self.differences:
            self.compare(repository, [commit])
        return self.differences[repository.root, commit]

    def prepare(self, figures: Iterable[Mapping[str, str]]) -> None:
        """Compare the commits of many figures at once, given their metadata."""
        found = (COMMIT.fullmatch(metadata.get("Commit", "")) for metadata in figures)
        if commits := sorted({each[1] for each in found if each}):
            self.compare(self.repository, commits)

    def compare(self, repository: Repository, commits: Sequence[str]) -> None:
        """Compare commits with the working tree: each with HEAD in one process of git, and HEAD with the files."""
        names = "".join(f"{commit}^{{tree}}\n" for commit in (*commits, "HEAD")).encode()
        answers = run_git(repository.root, "cat-file", "--batch-check", data=names).decode().splitlines()
        trees = [answer.split()[0] if answer.split()[1:2] == ["tree"] else "" for answer in answers]
        head = trees.pop()
        edited = set(changed_files(repository, "HEAD")) if head else set()
        committed = diff_trees(repository, sorted({tree for tree in trees if tree}), head) if head else {}
        for commit, tree in zip(commits, trees, strict=True):
            found = committed.get(tree)
            if found is not None and edited.isdisjoint(found):
                changed: list[str] | None = sorted(edited.union(found))
            else:  # an edit may undo a change since that commit
                changed = changed_files(repository, commit) if tree else None
            self.differences[repository.root, commit] = changed and without_equal_untracked(repository, commit, changed)

    def is_ancestor(self, repository: Repository, commit: str) -> bool:
        """Return whether a commit is in the history of HEAD. A commit that submit.sh made is not."""
        key = (repository.root, commit)
        if key not in self.ancestors:
            words = ("merge-base", "--is-ancestor", commit, "HEAD")
            try:
                run_git(repository.root, *words)
                self.ancestors[key] = True
            except GitError:
                self.ancestors[key] = False
        return self.ancestors[key]


def changed_files(repository: Repository, commit: str) -> list[str]:
    """Return the tracked files that differ from a commit."""
    words = ("diff", "--name-only", "-z", "--no-renames", "--no-ext-diff")
    return split_names(run_git(repository.root, "--no-optional-locks", *words, commit, "--"))


def without_equal_untracked(repository: Repository, commit: str, names: Sequence[str]) -> list[str]:
    """Leave out untracked files that are as in a commit. Git reports them as deleted.

    submit.sh commits untracked files, but not in the user's index.
    """
    root = repository.root
    existing = [name for name in names if (root / name).is_file() and "\n" not in name]
    listed = run_git(root, "ls-files", "-z", "--", *existing) if existing else b""
    untracked = sorted(set(existing).difference(split_names(listed)))
    if not untracked:
        return [*names]
    lines = [f"{name}\n" for name in untracked]
    committed = run_git(
        root, "cat-file", "--batch-check=%(objectname)", data=os.fsencode("".join(f"{commit}:{line}" for line in lines))
    )
    here = run_git(root, "hash-object", "--stdin-paths", data=os.fsencode("".join(lines)))
    pairs = zip(untracked, committed.splitlines(), here.splitlines(), strict=True)
    equal = {name for name, old, new in pairs if old == new}
    return [name for name in names if name not in equal]


def diff_trees(repository: Repository, trees: Sequence[str], head: str) -> dict[str, list[str]]:
    """Return the files that differ between each tree and that of HEAD."""
    headers = [f"{tree} {head}\n".encode() for tree in trees]
    words = ("diff-tree", "--stdin", "-r", "-z", "--name-only", "--no-renames", "--no-ext-diff")
    answer = run_git(repository.root, *words, data=b"".join(headers))
    found: dict[str, list[str]] = {}
    for tree, header, following in zip(trees, headers, [*headers[1:], None], strict=False):
        answer = answer.removeprefix(header)
        end = answer.index(following) if following else len(answer)
        found[tree], answer = split_names(answer[:end]), answer[end:]
    return found


def split_names(listing: bytes) -> list[str]:
    return [os.fsdecode(name) for name in listing.split(b"\0")[:-1]]
