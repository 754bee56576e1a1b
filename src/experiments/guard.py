"""Refuse an update that would touch uncommitted work."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.errors import Problem
from experiments.experiment import Experiment
from experiments.files import NOT_REGULAR, Write, read_now
from experiments.git import EXECUTABLE, REGULAR, Blob

COMMIT_FIRST = "Commit that, and run again."
MOVE_AWAY = "Move it away, and run again."
PUT_BACK = "Put the file back, and run again."


@dataclass(frozen=True)
class Change:
    """What an update does to one file: from the blob in the last commit to a new one."""

    path: str  # in the experiment
    old: Blob | None
    new: Blob | None
    content: bytes  # of the new blob


def plan_writes(experiment: Experiment, changes: Sequence[Change]) -> list[Write]:
    """Return the files to write. Raises Problem if one of them has uncommitted work.

    A file that has its new content already, as after an interrupted update, is accepted.
    """
    repository = experiment.repository
    paths = {experiment.tracked(change.path): change for change in changes}
    staged = repository.staged(paths)
    for path, change in paths.items():
        refuse_staged(path, change, staged)
        refuse_links(repository.root, path)
    # The files are read before git hashes them: what an editor saves in between is noticed when they are replaced.
    contents = {path: read_now(repository.root / path) for path in paths}
    present = [path for path in paths if contents[path] is not None]
    hashes = dict(zip(present, repository.hashes(present), strict=True))
    for path, change in paths.items():
        refuse_edited(path, change, hashes.get(path))
        if path in hashes and not (repository.root / path).stat().st_mode & 0o200:
            raise Problem(f"{path} is read-only", f"Run `chmod u+w {shlex.quote(path)}`, then run again.")
    writes = [make_write(repository.root / path, contents[path], change) for path, change in paths.items()]
    # Deletions come first: if two names differ in case only, they may be one file. The answers stay last.
    return sorted(writes, key=lambda write: write.content is not None)


def refuse_staged(path: str, change: Change, staged: dict[str, Blob | None]) -> None:
    """Raise Problem if the index has neither what was committed nor what the update writes."""
    if path in staged and staged[path] is None:
        raise Problem(f"{path} has conflicts of a merge", "Resolve them, commit, and run again.")
    if staged.get(path) not in (change.old, change.new):
        raise Problem(f"{path} has staged changes", COMMIT_FIRST)


def refuse_edited(path: str, change: Change, found: str | None) -> None:
    """Raise Problem if a file with the hash `found` has neither the committed content nor the new content."""
    accepted = {blob.id for blob in (change.old, change.new) if blob}
    if found and found not in accepted and change.old:
        raise Problem(f"{path} has uncommitted changes", COMMIT_FIRST)
    if found and found not in accepted:
        raise Problem(f"{path} is in the way and not in git", MOVE_AWAY)
    if not found and change.old and change.new:
        raise Problem(f"{path} is deleted, but that is not committed", COMMIT_FIRST)


def refuse_links(root: Path, path: str) -> None:
    """Raise Problem if a path is not that of a regular file, or leads through a symlink or a file."""
    file = root
    for part in Path(path).parts:
        file = file / part
        if file.is_symlink():
            raise Problem(f"{path} {NOT_REGULAR}", PUT_BACK)
        if file != root / path and file.exists() and not file.is_dir():
            raise Problem(f"{file.relative_to(root)} is in the way and not a folder", MOVE_AWAY)
    if file.exists() and not file.is_file():
        raise Problem(f"{path} {NOT_REGULAR}", PUT_BACK)


def make_write(file: Path, content: bytes | None, change: Change) -> Write:
    if change.new is None:
        return Write(file, content, None)
    old_mode = change.old.mode if change.old else REGULAR
    executable = change.new.mode == EXECUTABLE if change.new.mode != old_mode else None
    return Write(file, content, change.content, executable)
