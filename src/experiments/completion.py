"""Complete command lines in bash and zsh: commands, options, experiments, runs and configurations."""

import argparse
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import argcomplete
from argcomplete.completers import DirectoriesCompleter
from argcomplete.shell_integration import shellcode

from experiments.errors import Problem
from experiments.experiment import Experiment, find_configurations
from experiments.git import Repository
from experiments.history import runs_folder
from experiments.records import find_records

Completer = Callable[..., Iterable[str]]


def complete_line(parser: argparse.ArgumentParser) -> None:
    """Print the completions of a command line, and exit. The shell passes it in variables."""
    argcomplete.autocomplete(parser, always_complete_options=False)


def print_code(shell: str) -> int:
    """Print the shell code that completes `experiments`."""
    print(shellcode(["experiments"], shell=shell))
    return 0


def complete_experiment(prefix: str, **_: object) -> Iterable[str]:
    """Return the names of experiments, or the folders that begin like a path."""
    if "/" in prefix or prefix.startswith("."):
        return list(DirectoriesCompleter()(prefix))
    try:
        folder = Repository.find(Path(".")).root / "experiments"
        return [path.name for path in folder.iterdir() if path.is_dir()]
    except (Problem, OSError):  # a message would appear in the command line
        return []


def complete_run(parsed_args: argparse.Namespace, **_: object) -> Iterable[str]:
    """Return the runs of the experiment that was typed before: RUN and CONFIG/RUN."""
    try:
        folder = runs_folder(Experiment.open(parsed_args.path))
    except (Problem, OSError, TypeError):  # no PATH was typed yet, or it is wrong
        return []
    names = [Path(record).parent.relative_to(folder) for record in find_records(folder)]
    return [word for name in names for word in (str(name), "/".join(name.parts[1:]))]


def complete_configuration(parsed_args: argparse.Namespace, **_: object) -> Iterable[str]:
    """Return the configurations of the experiment that was typed before."""
    try:
        return find_configurations(Experiment.open(parsed_args.path).path)
    except (Problem, OSError, TypeError):
        return []


# By the names of arguments.
COMPLETERS: Mapping[str, Completer] = {
    "path": complete_experiment,
    "paths": complete_experiment,
    "run": complete_run,
    "runs": complete_run,
    "config": complete_configuration,
}
