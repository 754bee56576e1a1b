"""Save the uncommitted changes of a run by hand. `experiments show` reproduces the run with them."""

import os
import os.path as osp
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping

from runtime.files import atomic_write
from runtime.paths import FOLDER, package_folder

NAME = "changes.patch"
LARGEST = 1_000_000  # bytes of the changed files, and of the difference
# The patch must not depend on the user's settings.
PLAIN = ("--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/")


def keep_changes(folder: str) -> str | None:
    """Write how the experiment and the package differ from their commit to changes.patch in a run's folder.

    New files are included, but not ignored ones, results/, slurm/ and .env. Returns the file's name, or None without a
    difference. Prints a warning and returns None if the changes are too large or git fails.
    """
    try:
        return NAME if write_changes(osp.join(folder, NAME)) else None
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        print(f"provenance: the uncommitted changes are not recorded: {reason_of(error)}", file=sys.stderr)
        return None


def write_changes(path: str) -> bool:
    """Write the difference to a path. Return whether there is one. Raises ValueError if it is too large."""
    package = package_folder()
    code = [".", *([package] if package else [])]
    paths = [*code, ":(exclude)results", ":(exclude)slurm", ":(exclude,top,glob)**/.env"]
    root, index = run_git("rev-parse", "--show-toplevel", "--git-path", "index").decode().splitlines()
    changed = run_git("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", *paths)
    entries = [os.fsdecode(entry) for entry in changed.split(b"\0") if entry]
    require_small(sum(size_of(osp.join(root, entry[3:])) for entry in entries))
    with tempfile.TemporaryDirectory() as own:
        environment = dict(os.environ)
        if any(entry.startswith("??") for entry in entries):  # a copy of the index gets the names of new files
            environment["GIT_INDEX_FILE"] = osp.join(own, "index")
            shutil.copyfile(osp.join(FOLDER, index), environment["GIT_INDEX_FILE"])
            run_git("add", "--intent-to-add", "--", *paths, environment=environment)
        patch = run_git("-c", "diff.relative=false", "diff", *PLAIN, "HEAD", "--", *paths, environment=environment)
    require_small(len(patch))
    if patch:  # else the run is dirty by a declared input alone
        with atomic_write(path) as part, open(part, "wb") as file:
            file.write(patch)
    return bool(patch)


def require_small(size: int) -> None:
    if size > LARGEST:
        raise ValueError("they are larger than 1 MB. Commit or ignore large files.")


def size_of(path: str) -> int:
    return os.lstat(path).st_size if osp.lexists(path) else 0


def reason_of(error: Exception) -> str:
    """Return the first line that git printed before it failed, or the text of another error."""
    printed: bytes | None = getattr(error, "stderr", None)
    text = printed.decode(errors="replace") if printed else str(error)
    return text.strip().split("\n")[0]


def run_git(*words: str, environment: Mapping[str, str] | None = None) -> bytes:
    """Return what git prints in the experiment's folder. Git takes no lock there."""
    command = ["git", "--no-optional-locks", "-C", FOLDER, *words]
    return subprocess.run(command, check=True, capture_output=True, env=environment).stdout
