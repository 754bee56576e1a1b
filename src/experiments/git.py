"""Git: what this package asks of it, and no more. No hook and no fsmonitor of anybody runs."""

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from experiments.errors import Problem, one_line
from experiments.files import locked

GIT = (
    *("git", "--literal-pathspecs"),
    *("-c", f"core.hooksPath={os.devnull}"),
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.safecrlf=false"),
)
SECONDS = 120  # after which a git that says nothing is given up

# What is under way in a repository, by the file or folder that git keeps in .git meanwhile.
OPERATIONS = {
    "MERGE_HEAD": "a merge",
    "rebase-merge": "a rebase",
    "rebase-apply": "a rebase",
    "CHERRY_PICK_HEAD": "a cherry-pick",
    "REVERT_HEAD": "a revert",
    "BISECT_LOG": "a bisect",
}


@dataclass(frozen=True)
class Blob:
    """A file in a commit or in the index."""

    mode: str  # 100644, 100755 or 120000, a link
    id: str


def run_git(
    folder: Path | str,
    *arguments: str | Path,
    data: bytes = b"",
    environment: Mapping[str, str] | None = None,
    accept: Sequence[int] = (0,),
) -> bytes:
    """What git prints, given `data` as its standard input. Raises Problem with git's own reason.

    Its output goes to files: a helper that outlives a git that was killed would keep a pipe open, and hang us.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as given:
        given.write(data)
        given.seek(0)
        command = [*GIT, *map(str, arguments)]
        try:
            done = subprocess.run(
                command, cwd=folder, env=environment, stdin=given, stdout=output, stderr=errors, timeout=SECONDS
            )
        except subprocess.TimeoutExpired:
            raise Problem(f"git {arguments[0]} took more than {SECONDS} s") from None
        if done.returncode in accept:
            output.seek(0)
            return output.read()
        errors.seek(0)
        lines = errors.read().decode(errors="replace").strip().splitlines() or [f"git {arguments[0]} failed"]
    first = next((line for line in lines if line.startswith(("fatal: ", "error: "))), lines[-1])
    raise Problem(first.removeprefix("fatal: ").removeprefix("error: "))


def ask_git(folder: Path | str, *arguments: str | Path) -> str:
    """What git prints, as text without the line's end."""
    return run_git(folder, *arguments).decode(errors="surrogateescape").rstrip("\n")


def blob_id(content: bytes, like: str) -> str:
    """The id that git gives to a file's content, in a repository that has ids like `like`."""
    algorithm = hashlib.sha1 if len(like) == 40 else hashlib.sha256
    return algorithm(b"blob %d\0" % len(content) + content).hexdigest()


def split_entries(listing: bytes) -> Iterator[tuple[list[str], str]]:
    """The fields before the tab, and the path after it, of each entry that `-z` ends by a NUL."""
    for entry in listing.split(b"\0")[:-1]:
        fields, path = entry.split(b"\t", 1)
        yield fields.decode().split(), os.fsdecode(path)


@dataclass(frozen=True)
class Repository:
    """The repository that holds an experiment."""

    root: Path

    @classmethod
    def of(cls, folder: Path) -> "Repository":
        return cls(Path(ask_git(folder, "rev-parse", "--show-toplevel")))

    def own_path(self, name: str) -> Path:
        """A path in .git, of this worktree."""
        return self.root / ask_git(self.root, "rev-parse", "--git-path", name)

    def lock(self, name: str = "commit") -> AbstractContextManager[None]:
        """One command at a time does this. The lock is in git's own folder, so nothing of it is in the tree."""
        return locked(self.own_path("experiments") / f"{name.replace('/', '%')}.lock")

    def committed(self, prefix: str) -> dict[str, Blob]:
        """The files in the last commit whose path begins with FOLDER/, by the rest of it; none without a commit."""
        if not run_git(self.root, "rev-parse", "--verify", "--quiet", "HEAD", accept=(0, 1)):
            return {}
        listing = run_git(self.root, "ls-tree", "-r", "-z", "HEAD", "--", *filter(None, [prefix]))
        return {path.removeprefix(prefix): Blob(mode, id) for (mode, _, id), path in split_entries(listing)}

    def staged(self, paths: Iterable[str]) -> dict[str, Blob | None]:
        """What the index has at these paths; None where a merge left it open."""
        listing = run_git(self.root, "ls-files", "--stage", "-z", "--", *paths)
        return {path: Blob(mode, id) if stage == "0" else None for (mode, id, stage), path in split_entries(listing)}

    def contents(self, ids: Sequence[str]) -> list[bytes]:
        """The contents of blobs. A partial clone fetches what it lacks."""
        if not ids:
            return []
        answer = run_git(self.root, "cat-file", "--batch", data="".join(f"{id}\n" for id in ids).encode())
        contents = []
        for _ in ids:
            header, _, answer = answer.partition(b"\n")
            size = int(header.split()[2])
            contents.append(answer[:size])
            answer = answer[size + 1 :]
        return contents

    def hashes(self, paths: Sequence[str]) -> list[str]:
        """The ids that files of the tree would have if they were added now, line ends converted as git does."""
        if any("\n" in path for path in paths):
            raise Problem("a file's name has a line's end")
        if not paths:
            return []
        names = b"".join(os.fsencode(path) + b"\n" for path in paths)
        return run_git(self.root, "hash-object", "--stdin-paths", data=names).decode().split()

    def refuse_commits(self) -> None:
        """Raise Problem where a commit would not be what its author expects."""
        for name, operation in OPERATIONS.items():
            if self.own_path(name).exists():
                raise Problem(f"{operation} is in progress in {self.root}", "finish it, or leave out --commit")
        if not run_git(self.root, "symbolic-ref", "--quiet", "HEAD", accept=(0, 1)):
            raise Problem(f"no branch is checked out in {self.root}", "switch to one, or leave out --commit")
        ask_git(self.root, "var", "GIT_COMMITTER_IDENT")

    def commit(self, written: Sequence[str], deleted: Sequence[str], message: str) -> None:
        """One commit of these paths alone, whatever else is staged. Nothing is signed. Ignored files are taken too."""
        if written:
            run_git(self.root, "add", "--force", "--", *written)
        run_git(
            self.root,
            *("commit", "--quiet", "--no-gpg-sign", "--only", "--message", message),
            *("--", *written, *deleted),
        )


def isolated() -> dict[str, str]:
    """An environment in which no setting of the user reaches git: neither configuration nor filters nor templates.

    HOME does what GIT_CONFIG_GLOBAL would: git before 2.32 does not know that.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "XDG_"))}
    return kept | {"GIT_CONFIG_NOSYSTEM": "1", "GIT_TEMPLATE_DIR": "", "HOME": os.devnull}


def forget_callers_repository() -> None:
    """Take out of the environment what a hook of git sets: it would point us at its own repository."""
    for variable in ask_git(".", "rev-parse", "--local-env-vars").split():
        os.environ.pop(variable, None)


def merge(mine: bytes, old: bytes, new: bytes) -> bytes | None:
    """Git's three-way merge of a text, or None where it conflicts."""
    with tempfile.TemporaryDirectory(prefix="merge-") as folder:
        for name, content in {"mine": mine, "old": old, "new": new}.items():
            Path(folder, name).write_bytes(content)
        command = ["git", "merge-file", "--stdout", "--quiet", "mine", "old", "new"]
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=SECONDS)
    if done.returncode > 127:
        raise Problem(f"git merge-file: {one_line(done.stderr.decode(errors='replace'))}")
    return None if done.returncode else done.stdout
