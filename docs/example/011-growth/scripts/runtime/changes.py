"""Keep the uncommitted changes of a run by hand, from which `experiments show` makes the run again."""

import os
import os.path as osp
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping

from runtime.files import temporary
from runtime.paths import FOLDER, package_folder

NAME = "changes.patch"
LARGEST = 1_000_000  # bytes of the changed files, and of the difference
# The patch must not depend on the user's settings.
PLAIN = ("--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/")


def keep_changes(folder: str) -> str | None:
    """Write how the experiment and the package differ from their commit to changes.patch in a run's folder.

    New files are included, but not ignored ones, results/, slurm/ and .env. Returns the file's name. Prints a warning
    and returns None if the changes are too large or git fails. Without a difference, it returns None, too.
    """
    try:
        reason = write_changes(osp.join(folder, NAME))
    except (OSError, subprocess.CalledProcessError) as error:
        reason = (getattr(error, "stderr", b"") or str(error).encode()).decode(errors="replace").strip().split("\n")[0]
    if reason:
        print(f"provenance: the uncommitted changes are not recorded: {reason}", file=sys.stderr)
    return NAME if not reason and osp.exists(osp.join(folder, NAME)) else None


def write_changes(path: str) -> str:
    """Write the difference to a path. Returns why that is not possible, else an empty text."""
    package = package_folder()
    code = [".", *([package] if package else [])]
    paths = [*code, ":(exclude)results", ":(exclude)slurm", ":(exclude,top,glob)**/.env"]
    root, index = run_git("rev-parse", "--show-toplevel", "--git-path", "index").decode().splitlines()
    changed = run_git("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", *paths)
    entries = [os.fsdecode(entry) for entry in changed.split(b"\0") if entry]
    if sum(size_of(osp.join(root, entry[3:])) for entry in entries) > LARGEST:
        return "they are larger than 1 MB. Commit or ignore large files."
    with tempfile.TemporaryDirectory() as own:
        environment = dict(os.environ)
        if any(entry.startswith("??") for entry in entries):  # a copy of the index gets the names of new files
            environment["GIT_INDEX_FILE"] = osp.join(own, "index")
            shutil.copyfile(osp.join(FOLDER, index), environment["GIT_INDEX_FILE"])
            run_git("add", "--intent-to-add", "--", *paths, environment=environment)
        patch = run_git("-c", "diff.relative=false", "diff", *PLAIN, "HEAD", "--", *paths, environment=environment)
    if not patch:  # the run is dirty by a declared input alone
        return ""
    if len(patch) > LARGEST:
        return "they are larger than 1 MB. Commit or ignore large files."
    with temporary(path) as part:
        with open(part, "wb") as file:
            file.write(patch)
        os.replace(part, path)
    return ""


def size_of(path: str) -> int:
    return os.lstat(path).st_size if osp.lexists(path) else 0


def run_git(*words: str, environment: Mapping[str, str] | None = None) -> bytes:
    """Return what git prints in the experiment's folder."""
    command = ["git", "--no-optional-locks", "-C", FOLDER, *words]
    return subprocess.run(command, check=True, capture_output=True, env=environment).stdout
