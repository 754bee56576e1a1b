# /// script
# requires-python = ">=3.10"
# dependencies = ["copier>=9.18", "rich>=13"]
# ///
"""Update many experiments, add runs to one, and say what is wrong with them.

uv run experiments.py update --commit       all of them, one commit each
uv run experiments.py update experiments/011-x --dry-run
uv run experiments.py update --vcs-ref v1.2.0 --jobs 4
uv run experiments.py add-run experiments/011-x growth delta_001
uv run experiments.py check                 what is wrong, one line each
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import yaml
from packaging.version import Version

ANSWERS = ".copier-answers.yml"
SOURCE = re.compile(r"^_src_path:.*\n(?:[ \t].*\n)*", re.MULTILINE)
GIT = f"git --no-optional-locks --literal-pathspecs -c core.hooksPath={os.devnull} -c core.safecrlf=false".split()
ELSEWHERE = re.compile(r"/(?:home|Users|u)/[^\s\"']+|[^\s\"'=]*/images/[^\s\"']*|[^\s\"'=]+\.(?:png|pdf|svg)\b")

# The environment of a worker: no setting of the user reaches Copier and the git that it calls.
NOBODY = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_TEMPLATE_DIR": "", "GIT_CONFIG_GLOBAL": os.devnull, "HOME": os.devnull}
NOBODY |= {f"GIT_{who}_{what}": "experiments" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


class Problem(Exception):
    """What is wrong, in one line."""


def git(cwd, *arguments, data=None):
    """What git prints, as bytes when `data`, its standard input, is bytes. No hook runs."""
    text = not isinstance(data, bytes)
    done = subprocess.run([*GIT, *map(str, arguments)], cwd=cwd, input=data, capture_output=True, text=text)
    if done.returncode:
        lines = (done.stderr if text else done.stderr.decode()).strip().split("\n")
        raise Problem(next((line for line in lines if line.startswith(("fatal: ", "error: "))), lines[-1]))
    return done.stdout.rstrip("\n") if text else done.stdout


def copier_call(function, *arguments, **options):
    """Copier with no questions, output or settings of the user. Raises Problem with its reason."""
    import copier  # not above: it keeps the environment of its import, and a worker has one of its own

    try:
        getattr(copier, function)(*arguments, defaults=True, quiet=True, settings=copier.Settings(), **options)
    except Exception as error:
        invalid = re.fullmatch(r'Question "(\w+)" is required', str(error))
        reason = f"its recorded answer to {invalid[1]} is no longer valid" if invalid else str(error)
        raise Problem(reason.strip().split("\n")[0].removeprefix("Validation error for question 'runs': ")) from None


@cache
def clone(source):
    """A clone of a template, for all experiments that name it. It is removed with the object that is returned."""
    folder = tempfile.TemporaryDirectory(prefix="template-")
    for short, url in (("gh:", "https://github.com/"), ("gl:", "https://gitlab.com/"), ("git+", "")):
        source = re.sub(f"^{re.escape(short)}/*", url, source)
    git(".", "clone", "--quiet", "--no-local", os.path.expanduser(source), folder.name)
    return folder


@cache
def release(template, ref=None):
    """The id and the description of a template's commit at `ref`, or of its newest release."""
    ref = ref or max(re.findall(r"^v?\d+(?:\.\d+)*$", git(template, "tag"), re.M), key=Version, default="HEAD")
    for name in (f"refs/tags/{ref}", f"origin/{ref}", ref):
        with suppress(Problem):
            commit = git(template, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
            return commit, git(template, "describe", "--tags", "--always", commit)
    raise Problem(f"its template has no {ref}")


class Experiment:
    """One experiment: its folder, its repository, its recorded answers and its template."""

    def __init__(self, path):
        self.path, self.name = Path(path).resolve(), os.path.relpath(Path(path).resolve())
        if not (self.path / ANSWERS).is_file():
            raise Problem(f"{path} has no {ANSWERS}, so it is no experiment of a template")
        self.answers = None
        with suppress(yaml.YAMLError):
            self.answers = yaml.safe_load((self.path / ANSWERS).read_text(encoding="utf-8"))
        if not {"_src_path", "_commit", "experiment", "runs"} <= set(self.answers or ()):
            raise Problem(f"{path}/{ANSWERS} is not of this template, or has conflicts")
        self.version = str(self.answers["_commit"])
        self.root = Path(git(self.path, "rev-parse", "--show-toplevel"))
        self.relative = self.path.relative_to(self.root).as_posix()

    @property
    def template(self):
        return clone(self.answers["_src_path"]).name

    def committed(self):
        """The id of its tree in the last commit, and the template's version there."""
        try:
            tree = git(self.root, "rev-parse", "--verify", "--quiet", f"HEAD:{self.relative}")
            answers = yaml.safe_load(git(self.root, "cat-file", "blob", f"{tree}:{ANSWERS}"))
        except Problem:
            raise Problem("it is not committed") from None
        blobs = [entry.split()[2] for entry in git(self.root, "ls-tree", "-r", tree).split("\n")]
        git(self.root, "cat-file", "--batch-check", data="\n".join(blobs))  # a partial clone fetches what it lacks
        return tree, str(answers["_commit"])

    def rendered(self, runs):
        """What its template, at its version, renders for these runs: {path: content}."""
        answers = {name: answer for name, answer in self.answers.items() if not name.startswith("_")} | {"runs": runs}
        with tempfile.TemporaryDirectory() as folder:
            copier_call("run_copy", self.answers["_src_path"], folder, data=answers, vcs_ref=self.version)
            files = [file for file in Path(folder).rglob("*") if file.is_file()]
            return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}

    def check_stakes(self, changes):
        """Raise Problem where a change would touch somebody's work. What is applied already may stay."""
        paths = {f"{self.relative}/{path}": (old, new) for path, old, new, _ in changes}
        index = {}
        for entry in git(self.root, "ls-files", "--stage", "-z", "--", *paths).split("\0")[:-1]:
            (mode, oid, stage), path = entry.split("\t")[0].split(), entry.split("\t", 1)[1]
            index[path] = (mode, oid) if stage == "0" else "unmerged"
        for path, (old, new) in paths.items():
            file = self.root / path
            if index.get(path) not in (old, new):
                raise Problem(f"{path} has staged changes")
            if any(part.is_symlink() for part in (file, *file.parents) if self.root in part.parents) or file.is_dir():
                raise Problem(f"{path} is behind a link, or no file any more")
            if file.exists() and git(self.root, "hash-object", "--", path) not in [
                side[1] for side in (old, new) if side
            ]:
                raise Problem(f"{path} has uncommitted changes" if old else f"{path} is in the way, and not in git")
            if not file.exists() and old and new:
                raise Problem(f"{path} is deleted, and that is not committed")

    def apply(self, changes):
        """Write the changed files, the answers last: until then, the experiment has its old version."""
        for path, _, new, content in sorted(changes, key=lambda change: change[0] == ANSWERS):
            file = self.path / path
            if new:
                file.parent.mkdir(parents=True, exist_ok=True)
                part = file.with_name(f".{file.name}.part")
                part.write_bytes(content)
                part.chmod(part.stat().st_mode | (0o111 if new[0] == "100755" else 0))
                os.replace(part, file)
            else:
                file.unlink(missing_ok=True)

    def commit(self, changes, message):
        """One commit of these changes alone, whatever else is staged. Nothing is signed."""
        paths = [f"{self.relative}/{path}" for path, *_ in changes]
        git(self.root, "add", "--force", "--", *(f"{self.relative}/{path}" for path, _, new, _ in changes if new))
        git(self.root, "commit", "--quiet", "--no-gpg-sign", "--only", "--message", message, "--", *paths)


def find(paths):
    """The experiments at these paths; without any, all under experiments/ whose answers are of this template."""
    if paths:
        return [Experiment(path) for path in paths]
    found = []
    for answers in sorted(Path(git(".", "rev-parse", "--show-toplevel")).glob(f"experiments/*/{ANSWERS}")):
        with suppress(Problem):
            found += [Experiment(answers.parent)] if not answers.parent.is_symlink() else []
    if not found:
        raise Problem("there is no experiment of this template under experiments/; name a folder")
    return found


def plan(objects, tree, name, template, commit):
    """In a worker: the changes of an update, each (path, old (mode, id) or None, new (mode, id) or None, content).

    It runs in a throw-away repository that holds the experiment alone, and borrows the objects of the real one.
    """
    os.environ |= NOBODY
    with tempfile.TemporaryDirectory(prefix="update-") as folder:
        answers = Path(folder, "experiments", name, ANSWERS)
        git(folder, "init", "--quiet")
        Path(folder, ".git/objects/info/alternates").write_text(f"{objects}\n")
        git(folder, "read-tree", f"--prefix=experiments/{name}/", tree)
        git(folder, "checkout-index", "--all")
        before = answers.read_text(encoding="utf-8")
        answers.write_text(SOURCE.sub(lambda _: f"_src_path: {template}\n", before), encoding="utf-8")
        git(folder, "commit", "--quiet", "--all", "--message", "Before")
        copier_call("run_update", answers.parent, vcs_ref=commit, overwrite=True)
        if conflicts := git(answers.parent, "diff", "--name-only", "--relative", "--diff-filter=U"):
            raise Problem(f"conflict in {', '.join(conflicts.split())}")
        after = SOURCE.sub(lambda _: SOURCE.search(before)[0], answers.read_text(encoding="utf-8"))
        answers.write_text(after, encoding="utf-8")
        git(folder, "add", "--all", "--force")
        result = f"{git(folder, 'write-tree')}:experiments/{name}"
        fields = iter(git(folder, "diff-tree", "-r", "-z", "--no-renames", tree, result).split("\0")[:-1])
        changes = []
        for header, path in zip(fields, fields, strict=True):
            old_mode, new_mode, old, new, _ = header[1:].split()
            old, new = ((mode, oid) if int(oid, 16) else None for mode, oid in ((old_mode, old), (new_mode, new)))
            changes.append((path, old, new, new and git(folder, "cat-file", "blob", new[1], data=b"")))
        return changes


def update(options):
    """Update experiments to a release of their template. Those where something is at stake are left as they were."""
    from rich.console import Console  # not above: workers do without
    from rich.progress import track
    from rich.table import Table

    console, left = Console(width=None if sys.stdout.isatty() else 1000), 0
    table = Table("experiment", "from", "to", "result", box=None, pad_edge=False)
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as workers, ThreadPoolExecutor(1) as starter:
        begun = [(each, starter.submit(begin, each, options.vcs_ref, workers)) for each in find(options.paths)]
        for experiment, future in track(begun, "Updating", console=console, disable=not console.is_terminal):
            version = ""
            try:
                version, planned = future.result()
                result = finish(experiment, version, planned.result(), options) if planned else "up to date"
            except Problem as problem:
                by_hand = f"copier update --defaults {shlex.quote(experiment.name)}"
                result, left = f"left: {problem}; by hand: {by_hand}", 1
            table.add_row(experiment.name, experiment.version, version, result)
    console.print(table)
    return left


def begin(experiment, ref, workers):
    """The version to update to, and a worker's plan; None where the last commit has that version."""
    tree, experiment.version = experiment.committed()
    commit, version = release(experiment.template, ref)
    if release(experiment.template, experiment.version)[0] == commit:
        return version, None
    objects = (experiment.root / git(experiment.root, "rev-parse", "--git-path", "objects")).resolve()
    return version, workers.submit(plan, objects, tree, experiment.path.name, experiment.template, commit)


def finish(experiment, version, changes, options):
    """Apply changes where nothing is at stake, and say what was done."""
    experiment.check_stakes(changes)
    if options.dry_run:
        return f"would change {', '.join(path for path, *_ in changes)}"
    experiment.apply(changes)
    try:
        if options.commit:
            experiment.commit(changes, f"Update {experiment.relative} from template {experiment.version} to {version}")
    except Problem as problem:
        raise Problem(f"updated, but not committed: {problem}") from None
    return "updated"


def add_run(options):
    """Add runs at the experiment's version: the files that it lacks, and the recorded answer."""
    experiment, script = Experiment(options.path), options.script
    runs = experiment.answers["runs"]
    new = experiment.rendered(runs | {script: [*runs.get(script, []), *options.tokens]})
    old = experiment.rendered(runs)
    numbers = "|".join(token[-3:] for token in options.tokens if token[-3:].isdigit())
    taken = re.compile(rf"conf/{script}_[^_]+_({numbers})\.yaml")
    added = [path for path in sorted(new) if path not in old]
    for path in (file.relative_to(experiment.path).as_posix() for file in experiment.path.glob("*/*")):
        if taken.fullmatch(path) or (path in added and path != f"scripts/{script}.py"):
            raise Problem(f"{experiment.name}/{path} exists, so its number is used; nothing was added")
    added = [path for path in added if not (experiment.path / path).exists()]
    experiment.apply([(path, None, ("100644", None), new[path]) for path in [*added, ANSWERS]])
    print(*(f"{experiment.name}/{path}" for path in added), sep="\n")


def findings(experiment):
    """What is wrong with an experiment: (path in it, words)."""
    path, machines = experiment.path, {}
    try:
        recorded, _ = release(experiment.template, experiment.version)
        newest, version = release(experiment.template)
        machines = yaml.safe_load(git(experiment.template, "show", f"{recorded}:lab.yml"))
        if git(experiment.template, "merge-base", recorded, newest) != newest:
            yield ANSWERS, f"is at {experiment.version}, and the newest release is {version}"
        for file in experiment.rendered(experiment.answers["runs"]):
            if file.startswith(("conf/", "scripts/")) and not (path / file).exists():
                yield file, "is gone, and the answers have its run"
    except Problem as problem:
        yield ANSWERS, f"cannot be compared with the template: {problem}"
    configs, named, numbers = {file.stem for file in path.glob("conf/*.yaml")} - {"default"}, set(), {}
    for launcher in sorted(path.glob("scripts/*.slurm")):
        name, text = f"scripts/{launcher.name}", launcher.read_text(encoding="utf-8", errors="replace")
        config = (re.findall(r"(?:--config-name[= ]|/conf/)([\w-]+)", text) or [""])[-1]
        named.add(config)
        if config not in configs:
            yield name, f"has no configuration conf/{config}.yaml" if config else "names no configuration"
        for field, short in (("partition", "p"), ("account", "A")):
            for value in re.findall(rf"^#SBATCH +(?:--{field}[= ]|-{short} ?)(\S+)", text, re.MULTILINE):
                if machines and value not in [machine.get(field) for machine in machines.values()]:
                    yield name, f"asks for {field} {value}, which no machine of lab.yml has"
        for match in ELSEWHERE.findall(text):
            yield name, f"has a path of one machine, {match}"
        run = re.fullmatch(rf"(?:{'|'.join(machines)})_(\w+)_(\d{{3}})", launcher.stem)
        if run and numbers.setdefault(run.groups(), name) != name:
            yield name, f"has the number {run[2]}, which is that of {numbers[run.groups()]} too"
    for config in sorted(configs - named):
        yield f"conf/{config}.yaml", "has no launcher"
    if not (path / "slurm/output").is_dir():
        yield "slurm/output", "is missing, so Slurm would lose every log"
    for file in (file for folder in (".", "conf", "queries", "scripts") for file in sorted((path / folder).glob("*"))):
        if file.suffix == ".rej":
            yield file.relative_to(path), "is what an update could not apply"
        elif file.is_file() and re.search(rb"^(<{7}|>{7}) ", file.read_bytes(), re.MULTILINE):
            yield file.relative_to(path), "has conflict markers"


def check(options):
    """Print one line for each finding."""
    lines = [f"{each.name}/{path}: {what}\n" for each in find(options.paths) for path, what in findings(each)]
    print(*lines, sep="", end="")
    return bool(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add = {}
    for name, function in {"update": update, "add-run": add_run, "check": check}.items():
        command = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
        command.set_defaults(function=function)
        add[name] = command.add_argument
    for name in ("update", "check"):
        add[name]("paths", nargs="*", metavar="PATH", help="an experiment; default: all under experiments/")
    add["update"]("--vcs-ref", metavar="REF", help="a version of the template; default: its newest release")
    add["update"]("--jobs", type=int, default=os.cpu_count(), metavar="N", help="updates at one time")
    add["update"]("--commit", action="store_true", help="make one commit for each experiment")
    add["update"]("--dry-run", action="store_true", help="change nothing, and say what would change")
    add["add-run"]("path", metavar="PATH", help="an experiment")
    add["add-run"]("script", metavar="SCRIPT", help="a script of it, or the name of a new one")
    add["add-run"]("tokens", nargs="+", metavar="TOKEN", help="MACHINE_NNN, like delta_001, or a sweep like gh_optuna")
    options = parser.parse_args()
    try:
        for variable in git(".", "rev-parse", "--local-env-vars").split():
            os.environ.pop(variable, None)  # a hook that calls this would point them at its own repository
        sys.exit(options.function(options))
    except Problem as problem:
        sys.exit(f"experiments.py: {problem}")


if __name__ == "__main__":
    main()
