"""Print the command that reproduces a figure of `save_figure`, or why there is none."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from experiments.code_state import COMMIT, CodeState
from experiments.experiment import Experiment
from experiments.figure_metadata import INTERACTIVE
from experiments.git import Repository
from experiments.history import History, read_histories
from experiments.records import EVERYTHING, RunInfo
from experiments.screen import show_cells
from experiments.show import commands_again, in_one_line
from experiments.slurm import Queue


def show_script_figure(figure: str, facts: Mapping[str, str]) -> int:
    """Print the metadata of a figure that no Run has saved, and how to reproduce it."""
    show_cells(("figure", figure), list(facts.items()))
    experiment = experiment_of(facts)
    problem = problem_of(facts, experiment)
    if problem or not experiment:
        print(f"\nNo command reproduces it: {problem}")
        return 0
    print("\nTo reproduce it:\n")
    for command in in_one_line(find_commands(facts, experiment)):
        print(f"  {command}")
    return 0


def experiment_of(facts: Mapping[str, str]) -> Experiment | None:
    """Return the experiment of the script that made a figure; None if it does not exist or the script is elsewhere."""
    found = re.match(r"experiments/[^/]+", facts.get("Script", ""))
    folder = Repository.find(Path(".")).root / found[0] if found else None
    return Experiment.open(str(folder)) if folder and folder.is_dir() else None


def problem_of(facts: Mapping[str, str], experiment: Experiment | None) -> str:
    """Return why no command can reproduce a figure; empty if one can."""
    script, commit = facts["Script"], COMMIT.fullmatch(facts.get("Commit", ""))
    if not commit:
        return "its commit was not recorded."
    if script == INTERACTIVE:
        return "it was made in an interactive session, which is not recorded. Save it in a script."
    if script.endswith(".ipynb"):
        return f"a notebook made it. Check out {commit[1]}, and run the cells of {script}."
    if not experiment:
        return f"{script} is not in an experiment of this repository."
    if commit[2] and CodeState(experiment.repository).is_ancestor(experiment.repository, commit[1]):
        return f"it was made from uncommitted changes of {commit[1]}, which are not recorded."
    return ""


def find_commands(facts: Mapping[str, str], experiment: Experiment) -> Iterator[str]:
    """Return the commands: that of the job's receipt, or the recorded one in a worktree at the commit."""
    [history] = read_histories([experiment], Queue.read(), EVERYTHING)
    return commands_again(history, find_run(history, facts))


def find_run(history: History, facts: Mapping[str, str]) -> RunInfo:
    """Return the run of the job that made a figure, or what is known about a run by hand."""
    for run in history.runs:
        if facts.get("Job") in (run.entry, run.job) and run.submission in history.receipts:
            return run
    record = {"script": facts["Script"], "command": f"python {facts['Command']}"}
    return RunInfo("", "", "", commit=facts["Commit"].removesuffix("-dirty"), record=record)
