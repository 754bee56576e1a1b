"""`experiments check`: print what is wrong with experiments. The checks are in `checks/`."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from experiments.checks import CHECKS
from experiments.checks.context import Check, Context, Finding
from experiments.errors import Problem, one_line, reason
from experiments.experiment import Experiment, Templates, absolute_source, find_each, find_folder, repository_of
from experiments.launcher import Syntax
from experiments.template import ANSWERS, Release


@dataclass(frozen=True)
class Options:
    """What to check: the names of checks, and the template of experiments that were never adopted."""

    select: Sequence[str] = ()  # empty: all
    ignore: Sequence[str] = ()
    compose: bool = False
    source: str | None = None

    def checks(self) -> list[Check]:
        """Return the selected checks. Raises Problem for an unknown name, and if Hydra is missing."""
        for name in (*self.select, *self.ignore):
            if name not in CHECKS:
                raise Problem(f'unknown check "{name}"; expected one of: {", ".join(CHECKS)}')
        chosen = set(self.select or CHECKS) - set(self.ignore)
        if not self.compose and "compose" not in self.select:
            chosen.discard("compose")
        if "compose" in chosen and not find_spec("hydra"):
            hint = "Install hydra-core next to experiments: `uvx --with hydra-core ...`"
            raise Problem("--compose needs Hydra", hint)
        if "compose" in chosen:
            chosen.discard("missing-base")  # Hydra reports it
        return [check for check in CHECKS.values() if check.name in chosen]


@dataclass
class Loader:
    """Read experiments with their templates, each once."""

    templates: Templates
    syntax: Syntax
    source: str | None = None  # the template of experiments that were never adopted; None: that of the others
    others: dict[Path, Release | None] = field(default_factory=dict)  # the newest release of those, by repository

    def load(self, experiment: Experiment) -> Context:
        """Return an experiment with its template, if that can be fetched."""
        context = Context(experiment.path, experiment.repository.root, self.syntax)
        if not (experiment.path / ANSWERS).exists():
            context.release = self.release_of_others(experiment)
            return context
        try:
            context.answers = experiment.answers()
            context.release = self.templates.recorded(context.answers)
            template = self.templates.get(context.answers.source)
            context.newest = template.newer_than(context.answers.version, context.release.commit)
            context.runs = context.release.parse_runs(context.answers.values, context.answers.values["runs"])
        except Problem as problem:
            context.problem = str(problem)
        return context

    def release_of_others(self, experiment: Experiment) -> Release | None:
        """Return the newest release for an experiment that was never adopted. Its lab.yml has the machines."""
        from experiments.adopt import source_of_others  # it loads rich, which takes a moment

        root = experiment.repository.root
        if root not in self.others:
            self.others[root] = None
            if self.source:
                self.others[root] = self.newest(absolute_source(self.source))
            else:
                with suppress(Problem):
                    self.others[root] = self.newest(source_of_others(experiment))
        return self.others[root]

    def newest(self, source: str) -> Release:
        template = self.templates.get(source)
        return template.release(template.find_commit(template.newest()))


@dataclass(frozen=True)
class Line:
    """A finding as it is printed: equal findings of an experiment are one."""

    experiment: str
    what: str
    check: str
    paths: list[str]

    def __str__(self) -> str:
        files = [f"{self.experiment}/{path}" for path in self.paths]
        if len(files) == 1:
            return f"{files[0]}: {self.what} [{self.check}]"
        listed = "".join(f"\n  {file}" for file in files)
        return f"{self.experiment}: {len(files)} files: {self.what} [{self.check}]{listed}"


def check(paths: list[str], options: Options) -> int:
    """Print the findings, equal ones once. Returns 1 if there is one, else 0."""
    checks = options.checks()
    experiments, problems = find_each(paths, open_folder)
    found = bool(problems)
    for problem in problems.values():
        print(problem)
    with Templates.temporary() as templates:
        syntax = Syntax([experiment.path for experiment in experiments])
        loader = Loader(templates, syntax, options.source)
        for experiment in experiments:
            for line in group(experiment, checks, loader.load(experiment)):
                found = True
                print(line)
    return int(found)


def list_checks() -> int:
    """Print the name and the summary of each check."""
    width = max(map(len, CHECKS))
    for each in CHECKS.values():
        print(f"{each.name:{width}}  {each.summary}")
    return 0


def group(experiment: Experiment, checks: Sequence[Check], context: Context) -> list[Line]:
    """Return an experiment's findings by their first file."""
    lines: dict[tuple[str, str], Line] = {}
    for each in checks:
        for finding in findings(each, context):
            what = one_line(finding.what)
            line = lines.setdefault((each.name, what), Line(experiment.name, what, each.name, []))
            if finding.path not in line.paths:
                line.paths.append(finding.path)
    for line in lines.values():
        line.paths.sort()
    return sorted(lines.values(), key=lambda line: (line.paths, line.check, line.what))


def findings(each: Check, context: Context) -> Iterator[Finding]:
    """Yield the findings of a check. A check that fails is a finding too."""
    try:
        yield from each.find(context)
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        yield Finding(".", f"cannot be checked: {reason(error)}")


def open_folder(path: str) -> Experiment:
    """Return the experiment at a path, adopted or not. Raises Problem if there is none."""
    folder = find_folder(path)
    if folder.is_dir():
        repository = repository_of(folder)
        is_one = folder.parent == repository.root / "experiments"
        if is_one or (folder / ANSWERS).exists() or (folder / "scripts").is_dir():
            return Experiment(folder, repository)
    raise Problem(f"{path} has neither {ANSWERS} nor scripts/, so it is not an experiment")
