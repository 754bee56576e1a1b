"""Merge one file of an experiment. Nothing is read or written here."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from experiments.git import LINK
from experiments.template import File

MergeLines = Callable[[bytes, bytes, bytes], bytes | None]  # mine, old, new -> the merged text; None for a conflict


class Decision(Enum):
    """What an update does to one file. The value of a refusal completes the sentence `PATH ...`."""

    KEEP = "keep the committed file"
    TAKE = "take the file of the new version, or delete the file if that has none"
    MERGE = "merge the lines of both"
    IS_LINK = "is a symlink now"
    EXISTS = "is new in the template, but exists here"
    EDITED = "was edited here, but the template no longer has it"
    NOT_TEXT = "is not UTF-8 text"


REFUSALS = (Decision.IS_LINK, Decision.EXISTS, Decision.EDITED, Decision.NOT_TEXT)


@dataclass(frozen=True)
class Refusal:
    """Why a file cannot be updated."""

    reason: str
    is_conflict: bool = False  # both sides changed the same lines: a person can resolve that


def decide(mine: File | None, old: File | None, new: File | None) -> Decision:
    """Return what an update does to a file: the decision of the first row that applies.

    mine  as it was committed last; None if it was not
    old   as the recorded version renders it; None if that does not
    new   as the new version renders it; None if that does not
    """
    rows = (
        (old == new, Decision.KEEP),  # the release did not change it
        (mine is None and old is not None, Decision.KEEP),  # a file that was deleted here stays deleted
        (mine is None, Decision.TAKE),
        (is_link(mine), Decision.IS_LINK),
        (has_same_content(mine, new), Decision.TAKE),
        (old is None, Decision.EXISTS),
        (new is None and not has_same_content(mine, old), Decision.EDITED),
        (has_same_content(mine, old), Decision.TAKE),
        (has_same_content(old, new), Decision.KEEP),  # the release changed the mode alone
        (not is_text(mine), Decision.NOT_TEXT),
        (True, Decision.MERGE),
    )
    return next(decision for applies, decision in rows if applies)


def merge_file(mine: File | None, old: File | None, new: File | None, merge_lines: MergeLines) -> File | Refusal | None:
    """Return a file after the update, None for no file, or why it cannot be updated. For the arguments see `decide`."""
    decision = decide(mine, old, new)
    if decision in REFUSALS:
        return Refusal(decision.value)
    if decision is Decision.MERGE and mine and old and new:
        merged = merge_lines(mine.content, old.content, new.content)
        return Refusal("conflict", True) if merged is None else File(merged, merged_mode(mine, old, new))
    chosen = mine if decision is Decision.KEEP else new
    return File(chosen.content, merged_mode(mine, old, new)) if chosen else None


def merged_mode(mine: File | None, old: File | None, new: File | None) -> str:
    """Return the new version's mode if the file is new or the release changed its mode, else the committed one."""
    is_changed = new is not None and (mine is None or old is None or new.mode != old.mode)
    file = new if is_changed else mine
    return file.mode if file else ""


def is_link(file: File | None) -> bool:
    return file is not None and file.mode == LINK


def has_same_content(one: File | None, other: File | None) -> bool:
    return one is not None and other is not None and one.content == other.content


def is_text(file: File | None) -> bool:
    """Return whether a file can be merged line by line without loss."""
    try:
        return file is not None and "\0" not in file.content.decode("utf-8")
    except UnicodeDecodeError:
        return False
