"""Check the inputs that a configuration declares: paths in DATA_ROOT or, if they begin with ./, in the experiment.

The preflight records a checksum of each input, and the job compares the checksums before it computes. A checksum
covers the content of an input's first CONTENT_LIMIT bytes. Further files count by their size and modification time.
Only the first FILE_LIMIT files and links of a folder count, in the order of their names.
"""

import os
import os.path as osp
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

from runtime.paths import FOLDER

CONTENT_LIMIT = 16 * 2**20  # bytes
FILE_LIMIT = 10_000
OWN_PREFIX = "./"  # begins the path of a file of the experiment


def declared(inputs: Any) -> list[Any]:
    """Return the entries of `inputs:` as a list. They may be of a wrong type; a single entry may stand alone."""
    is_list = isinstance(inputs, Sequence) and not isinstance(inputs, str)
    return list(inputs) if is_list else [inputs] if inputs is not None else []


def own_paths(inputs: Any) -> list[str]:
    """Return the declared files of the experiment, relative to its folder."""
    return [path[len(OWN_PREFIX) :] for path in declared(inputs) if isinstance(path, str) and is_own(path)]


def is_own(path: str) -> bool:
    """Return whether a declared path is one of the experiment."""
    return path.startswith(OWN_PREFIX)


def located(path: str) -> str:
    """Return the absolute path of a declared input. The experiment's own files are read from the live tree."""
    return osp.normpath(osp.join(FOLDER if is_own(path) else os.environ["DATA_ROOT"], path))


def is_inside(path: str) -> bool:
    """Return whether a declared path is below DATA_ROOT or, with ./, below the experiment."""
    root, target = FOLDER if is_own(path) else os.environ["DATA_ROOT"], located(path)
    pairs = ((osp.normpath(root), target), (osp.realpath(root), osp.realpath(target)))
    return any(below.startswith(osp.join(above, "")) for above, below in pairs)


def input_problems(inputs: Any) -> Iterator[str]:
    """Yield the problems of declared inputs: paths outside the allowed folders, and missing or unreadable files."""
    paths = declared(inputs)
    if not all(isinstance(path, str) for path in paths):
        yield f"inputs: {inputs} is not a list of paths. Write paths in DATA_ROOT, or ./PATH for the experiment."
        return
    outside = [path for path in paths if not is_inside(path)]
    if outside:
        yield (
            f"inputs: not in DATA_ROOT or in the experiment: {', '.join(map(repr, outside))}. "
            "Write paths in DATA_ROOT, or ./PATH for the experiment."
        )
    missing = [located(path) for path in paths if path not in outside and not os.access(located(path), os.R_OK)]
    if missing:
        yield f"inputs: missing or unreadable: {', '.join(missing)}"


def checksums(inputs: Any) -> dict[str, str]:
    """Return the checksum of each declared input by its path as written. Raises OSError if one cannot be read."""
    return {path: checksum(located(path)) for path in declared(inputs)}


def checksum(path: str) -> str:
    total = sha256()
    room = CONTENT_LIMIT
    for name, file in files(path):
        status = os.lstat(file) if osp.islink(file) and not osp.exists(file) else os.stat(file)
        kind = stat.S_IFMT(status.st_mode)
        parts = [name, str(kind), str(status.st_size)]
        if kind == stat.S_IFREG and status.st_size <= room:
            room -= status.st_size
            parts.append(content_hash(file))
        elif kind == stat.S_IFREG:
            parts.append(str(status.st_mtime_ns))
        elif osp.islink(file):
            parts = [name, os.readlink(file)]
        total.update("\0".join([*parts, ""]).encode(errors="surrogateescape"))
    return total.hexdigest()


def content_hash(file: str) -> str:
    total = sha256()
    with open(file, "rb") as stream:
        while block := stream.read(2**20):
            total.update(block)
    return total.hexdigest()


def files(path: str) -> Iterator[tuple[str, str]]:
    """Yield the relative and the absolute path of an input's files. A folder yields its first FILE_LIMIT files."""
    if not osp.isdir(path):
        yield "", path
        return
    left = FILE_LIMIT
    for folder, folders, names in os.walk(path, onerror=raise_error):
        links = [name for name in folders if osp.islink(osp.join(folder, name))]
        folders.sort()
        for name in sorted([*names, *links])[:left]:
            file = osp.join(folder, name)
            yield osp.relpath(file, path), file
            left -= 1
        if not left:
            return


def raise_error(error: OSError) -> None:
    raise error


def size_note(path: str) -> str | None:
    """Return a note if an input is a folder with too many files to compare them all, else None."""
    folder = located(path)
    if osp.isdir(folder) and sum(1 for _ in files(folder)) == FILE_LIMIT:
        return f"inputs: {path} has at least {FILE_LIMIT} files. The job only compares the first {FILE_LIMIT}."
    return None


def refuse_changed(inputs: Any) -> None:
    """Exit if a declared input has changed since submit.sh submitted this job."""
    receipt = os.environ.get("EXPERIMENT_SUBMISSION")
    if not receipt or not declared(inputs):
        return
    recorded = read_receipt(receipt)
    try:
        now = checksums([path for path in declared(inputs) if path in recorded])
    except OSError as error:
        sys.exit(f"inputs: {error.filename} cannot be read: {error.strerror}")
    changed = [path for path, value in now.items() if value != recorded[path]]
    if changed:
        sys.exit(f"inputs: changed since the job was submitted: {', '.join(changed)}. Submit it again.")


def read_receipt(receipt: str) -> Mapping[str, str]:
    """Return the checksums that submit.sh recorded, by path. They are empty if it could not run Python."""
    if not osp.isdir(receipt):
        sys.exit(f"inputs: cannot be compared, because the receipt {receipt} is missing. Submit the job again.")
    path = osp.join(receipt, "inputs")
    if not osp.exists(path):
        return {}
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        words = file.read().split("\0")
    return dict(zip(words[::2], words[1::2], strict=False))
