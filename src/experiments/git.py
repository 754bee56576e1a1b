"""Git commands, run without the user's hooks and fsmonitor."""

import hashlib
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.errors import Problem
from experiments.files import locked

GIT = (
    *("git", "--literal-pathspecs"),
    *("-c", f"core.hooksPath={os.devnull}"),
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.safecrlf=false"),
    *("-c", "diff.relative=false"),  # `diff --no-relative` needs git 2.28
)
SECONDS = 120  # the time that one git command may take
CONFLICTS = range(1, 128)  # exit codes of `git merge-file`: the number of conflicts
REGULAR, EXECUTABLE, LINK, SUBMODULE = "100644", "100755", "120000", "160000"  # modes of files in git

# Operations that may be in progress in a repository, by the file or folder in .git that marks them.
OPERATIONS = {
    "MERGE_HEAD": "a merge",
    "rebase-merge": "a rebase",
    "rebase-apply": "a rebase",
    "CHERRY_PICK_HEAD": "a cherry-pick",
    "REVERT_HEAD": "a revert",
    "BISECT_LOG": "a bisect",
}


class GitError(Problem):
    """A git command that failed, with git's own message."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Blob:
    """A file in a commit or in the index."""

    mode: str
    id: str


def run_git(
    folder: Path | str,
    *arguments: str | Path,
    data: bytes = b"",
    environment: Mapping[str, str] | None = None,
    accept: Sequence[int] = (0,),
) -> bytes:
    """Return what git prints, given `data` as its standard input. Raises GitError, or Problem after SECONDS.

    The output goes to files: with a pipe, a helper that outlives a killed git would keep this process waiting.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as given:
        given.write(data)
        given.seek(0)
        command = [*GIT, *map(str, arguments)]
        code = run_limited(command, cwd=folder, env=environment, stdin=given, stdout=output, stderr=errors)
        if code is None:
            raise Problem(f"git {arguments[0]} took more than {SECONDS} s")
        if code in accept:
            output.seek(0)
            return output.read()
        errors.seek(0)
        lines = errors.read().decode(errors="replace").strip().splitlines() or [f"git {arguments[0]} failed"]
    first = next((line for line in lines if line.startswith(("fatal: ", "error: "))), lines[-1])
    raise GitError(first.removeprefix("fatal: ").removeprefix("error: "), code)


def run_limited(command: Sequence[str], **options: Any) -> int | None:
    """Return the exit code of a command, or None if it was killed after SECONDS. `options` are those of Popen.

    A timer kills it, because `Popen.wait` with a time limit looks only every 50 ms.
    """
    process = subprocess.Popen(command, **options)
    is_late = threading.Event()

    def end() -> None:
        is_late.set()
        process.kill()

    timer = threading.Timer(SECONDS, end)
    timer.daemon = True
    timer.start()
    try:
        process.wait()
    except BaseException:  # as of a signal
        process.kill()
        process.wait()
        raise
    finally:
        timer.cancel()
        timer.join()  # a process with several threads should not fork
    return None if is_late.is_set() else process.returncode


def ask_git(folder: Path | str, *arguments: str | Path) -> str:
    """Return what git prints, as text without the last line end."""
    return run_git(folder, *arguments).decode(errors="surrogateescape").rstrip("\n")


def hash_blob(content: bytes, like: str) -> str:
    """Return the id that git gives to a file's content, in a repository with ids as long as `like`."""
    algorithm = hashlib.sha1 if len(like) == 40 else hashlib.sha256
    return algorithm(b"blob %d\0" % len(content) + content).hexdigest()


def split_entries(listing: bytes) -> Iterator[tuple[list[str], str]]:
    """Yield the fields before the tab and the path after it, for each entry of a listing by `-z`."""
    for entry in listing.split(b"\0")[:-1]:
        fields, path = entry.split(b"\t", 1)
        yield fields.decode().split(), os.fsdecode(path)


@dataclass(frozen=True)
class Repository:
    """The repository that holds an experiment."""

    root: Path

    @classmethod
    def find(cls, folder: Path) -> "Repository":
        """Return the repository around a folder. Raises Problem if there is none."""
        return cls(Path(ask_git(folder, "rev-parse", "--show-toplevel")))

    def own_path(self, name: str) -> Path:
        """Return the path of a file that git keeps for this worktree."""
        return self.root / ask_git(self.root, "rev-parse", "--git-path", name)

    def lock(self, name: str = "commit") -> AbstractContextManager[None]:
        """Hold a lock of this repository. Its file is in .git, so the working tree stays clean."""
        return locked(self.own_path("experiments") / f"{name.replace('/', '%')}.lock")

    def committed(self, prefix: str) -> dict[str, Blob]:
        """Return the files of the last commit below FOLDER/, by their path in it. Without a commit there are none."""
        if not run_git(self.root, "rev-parse", "--verify", "--quiet", "HEAD", accept=(0, 1)):
            return {}
        listing = run_git(self.root, "ls-tree", "-r", "-z", "HEAD", "--", *filter(None, [prefix]))
        return {path.removeprefix(prefix): Blob(mode, name) for (mode, _, name), path in split_entries(listing)}

    def staged(self, paths: Iterable[str]) -> dict[str, Blob | None]:
        """Return what the index has at these paths; None for a path with an unresolved merge."""
        listing = run_git(self.root, "ls-files", "--stage", "-z", "--", *paths)
        entries = split_entries(listing)
        return {path: Blob(mode, name) if stage == "0" else None for (mode, name, stage), path in entries}

    def contents(self, ids: Sequence[str]) -> list[bytes]:
        """Return the contents of blobs. A partial clone fetches those that it lacks."""
        if not ids:
            return []
        answer = run_git(self.root, "cat-file", "--batch", data="".join(f"{name}\n" for name in ids).encode())
        contents = []
        for _ in ids:
            header, _, answer = answer.partition(b"\n")
            size = int(header.split()[2])
            contents.append(answer[:size])
            answer = answer[size + 1 :]
        return contents

    def hashes(self, paths: Sequence[str]) -> list[str]:
        """Return the ids that files of the working tree would have if they were added now, with git's line ends."""
        if any("\n" in path for path in paths):
            raise Problem("a file has a line break in its name")
        if not paths:
            return []
        names = b"".join(os.fsencode(path) + b"\n" for path in paths)
        return run_git(self.root, "hash-object", "--stdin-paths", data=names).decode().split()

    def ignored(self, paths: Sequence[str]) -> dict[str, str]:
        """Return those of these untracked paths that git ignores, each with the rule: its file, line and pattern."""
        if not paths:
            return {}
        given = "\0".join(paths).encode()
        command = ("--no-literal-pathspecs", "check-ignore", "--verbose", "-z", "--stdin")
        answer = run_git(self.root, *command, data=given, accept=(0, 1))
        fields = answer.decode(errors="replace").split("\0")[:-1]
        entries = zip(fields[::4], fields[1::4], fields[2::4], fields[3::4], strict=True)
        return {path: f"{file}:{line}:{pattern}" for file, line, pattern, path in entries if pattern[0] != "!"}

    def refuse_commits(self) -> None:
        """Raise Problem if a commit would not be what its author expects."""
        for name, operation in OPERATIONS.items():
            if self.own_path(name).exists():
                raise Problem(f"{operation} is in progress in {self.root}", "Finish it, or remove --commit.")
        if not run_git(self.root, "symbolic-ref", "--quiet", "HEAD", accept=(0, 1)):
            raise Problem(f"no branch is checked out in {self.root}", "Switch to one, or remove --commit.")
        ask_git(self.root, "var", "GIT_COMMITTER_IDENT")

    def leave_unmerged(self, path: str, versions: Sequence[Blob], contents: Sequence[bytes]) -> None:
        """Record a conflict of a path in the index: its old version, mine and the new one."""
        for content in contents:
            run_git(self.root, "hash-object", "-w", "--stdin", "--no-filters", data=content)
        lines = [f"0 {'0' * len(versions[0].id)}\t{path}\0"]
        lines += [f"{blob.mode} {blob.id} {stage}\t{path}\0" for stage, blob in enumerate(versions, start=1)]
        run_git(self.root, "update-index", "-z", "--index-info", data=os.fsencode("".join(lines)))

    def commit(self, written: Sequence[str], deleted: Sequence[str], message: str) -> None:
        """Commit these paths alone, ignored or not, whatever else is staged. The commit is not signed."""
        if written:
            run_git(self.root, "add", "--force", "--", *written)
        run_git(
            self.root,
            *("commit", "--quiet", "--no-gpg-sign", "--only", "--message", message),
            *("--", *written, *deleted),
        )


def isolated() -> dict[str, str]:
    """Return an environment in which no setting of the user reaches git: no configuration, filter or template.

    HOME takes the place of GIT_CONFIG_GLOBAL, which git knows since 2.32.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "XDG_"))}
    return kept | {"GIT_CONFIG_NOSYSTEM": "1", "GIT_TEMPLATE_DIR": "", "HOME": os.devnull}


def forget_hook_variables() -> None:
    """Unset the variables that git sets for a hook: they would name the hook's repository to each git command."""
    for variable in ask_git(".", "rev-parse", "--local-env-vars").split():
        os.environ.pop(variable, None)


def merge_lines(mine: bytes, old: bytes, new: bytes) -> bytes | None:
    """Return git's three-way merge of a text, or None if it conflicts."""
    try:
        return merge_texts({"mine": mine, "old": old, "new": new}, accept=(0,))
    except GitError as error:
        if error.code in CONFLICTS:
            return None
        raise


def mark_conflicts(texts: Mapping[str, bytes]) -> bytes:
    """Return the merge of mine, old and new, each with its name, with both sides of a conflict between markers."""
    return merge_texts(texts, accept=(0, *CONFLICTS))


def merge_texts(texts: Mapping[str, bytes], accept: Sequence[int]) -> bytes:
    labels = [word for name in texts for word in ("-L", name)]
    with tempfile.TemporaryDirectory(prefix="merge-") as folder:
        for number, content in enumerate(texts.values()):
            Path(folder, str(number)).write_bytes(content)
        return run_git(folder, "merge-file", "--stdout", "--quiet", *labels, "0", "1", "2", accept=accept)
