"""`experiments show`: print the record of a run, and how to reproduce it. Nothing is changed."""

import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import chain, count
from pathlib import Path
from typing import Any

from experiments.errors import Problem
from experiments.experiment import Experiment, find_all
from experiments.git import GitError, Repository, run_git
from experiments.history import History, find_env, read_histories
from experiments.listing import facts_of_figure, locate_figure, readable_size
from experiments.receipts import Receipt
from experiments.records import (
    EVERYTHING,
    RECORD,
    RunInfo,
    describe_changes,
    fill_run,
    mapping_of,
    patch_of,
    readable_seconds,
    short_number,
    text_of,
    texts_of,
)
from experiments.screen import show_cells
from experiments.slurm import Queue

Line = tuple[str, str]  # its title, which is empty if it is that of the line before, and its text


def show_run(path: str, name: str) -> int:
    """Print the record of a run."""
    experiment = Experiment.open(path)
    [history] = read_histories([experiment], Queue.read(), EVERYTHING)
    print_run(history, history.find_run(name))
    return 0


def show_figure_run(path: str | None, figure: str) -> int:
    """Print the record of the run that made a figure."""
    figure = locate_figure(path, figure)
    facts = facts_of_figure(path, figure)
    if "Run" not in facts:
        from experiments.remake import show_script_figure

        return show_script_figure(figure, facts)
    script = re.match(r"experiments/([^/]+)/", facts.get("Script", ""))
    experiments = [Experiment.open(path)] if path else find_all()
    experiments = [each for each in experiments if not script or each.path.name == script[1]]
    histories = read_histories(experiments, Queue.read(), EVERYTHING)
    for history in histories:
        for run in history.runs:
            if run.folder == facts["Run"]:
                print_run(history, run, in_one_line)
                return 0
    record = Path(facts["Run"], RECORD)
    if not histories or not record.is_file():
        raise Problem(f"{record} does not exist: the record of the run that made {figure}")
    elsewhere = RunInfo(facts.get("Configuration", ""), record.parent.name, "", folder=facts["Run"])
    print_run(histories[0], fill_run(elsewhere, EVERYTHING), in_one_line)  # hydra.run.dir chose its folder
    return 0


def print_run(history: History, run: RunInfo, join: Callable[[Iterable[str]], Iterable[str]] = iter) -> None:
    """Print a line per fact. The commands at the end can be copied; `join` may make them one."""
    lines = [*describe(history, run), *describe_attempts(run), *describe_files(run)]
    show_cells(("run", f"{run.config}/{run.name}" if run.name else f"{run.config}, job {run.entry}"), lines)
    print("\nTo reproduce it:\n")
    for command in join(commands_again(history, run)):
        print(f"  {command}")


def in_one_line(commands: Iterable[str]) -> list[str]:
    """Return commands as one that stops at the first failure, after the comments among them."""
    lines = list(commands)
    notes = [line for line in lines if line.startswith("#")]
    return [*notes, *filter(None, [" && ".join(line for line in lines if line not in notes)])]


def describe(history: History, run: RunInfo) -> Iterator[Line]:
    """Yield how a run was made, and what came out."""
    yield "state", run.state
    if run.error:
        yield "error", run.error
    receipt = history.receipts.get(run.submission)
    facts = {
        "script": text_of(run.record.get("script")),
        "command": text_of(run.record.get("command")),
        "overrides": " ".join(run.overrides),
        "commit": run.commit + (f" ({describe_dirt(run, receipt)})" if run.dirty else ""),
        "host": text_of(run.record.get("host")),
        "job": run.entry,
        "launcher": receipt.text("launcher") if receipt else "",
        "started": run.started or run.submitted,
        "time": readable_seconds(run.seconds(datetime.now().astimezone())),
        "memory": describe_memory(mapping_of(run.record.get("usage"))),
    }
    yield from ((title, text) for title, text in facts.items() if text)
    yield from titled("metrics", [f"{name} = {short_number(value)}" for name, value in run.metrics.items()])


def describe_dirt(run: RunInfo, receipt: Receipt | None) -> str:
    """Return where the uncommitted changes of a dirty run are. submit.sh commits them, except with --live."""
    if run.submission and (receipt is None or receipt.is_pinned):
        return "includes changes that were uncommitted"
    return f"and {describe_changes(run.folder, run.record)}"


def describe_memory(usage: Mapping[str, Any]) -> str:
    """Return the peak memory in words; empty if it is not known."""
    names = {"process_bytes": "process", "child_bytes": "largest child", "job_bytes": "job"}
    return ", ".join(f"{readable_size(usage[key])} {name}" for key, name in names.items() if usage.get(key))


def describe_attempts(run: RunInfo) -> Iterator[Line]:
    """Yield a line per attempt, if there were several."""
    attempts = run.record.get("attempts")
    if isinstance(attempts, list) and len(attempts) > 1:
        words = [
            [text_of(attempt.get(name)) for name in ("started", "status", "host", "error")] for attempt in attempts
        ]
        yield from titled("attempts", [" ".join(filter(None, each)) for each in words])


def describe_files(run: RunInfo) -> Iterator[Line]:
    """Yield the folder of a run and its files elsewhere."""
    if run.folder:
        yield "folder", run.folder
    yield from titled("figures", texts_of(run.record.get("figures")))
    yield from titled("tables", texts_of(run.record.get("tables")))


def titled(title: str, texts: list[str]) -> Iterator[Line]:
    yield from ((title if number == 0 else "", text) for number, text in enumerate(texts))


# Again ----------------------------------------------------------------------------------------------------------------


def commands_again(history: History, run: RunInfo) -> Iterator[str]:
    """Yield the commands that reproduce a run: by its receipt, or in a worktree at its commit."""
    receipt = history.receipts.get(run.submission)
    if receipt and (receipt.is_pinned or not run.dirty):
        words = ["bash", f"{history.experiment.name}/scripts/submit.sh", "--again", run.folder or run.entry]
        yield shlex.join([*words, *(["--name", free_name(run)] if run.point else [])])
        return
    if not run.commit or not run.record:
        yield "# The record has no commit."
        return
    repository = history.experiment.repository
    if not has_commit(repository, run.commit):
        yield f"# Fetch the commit {run.commit} first: this repository does not have it."
        return
    folder = os.path.relpath(new_worktree(repository, run.commit))
    yield shlex.join(["git", "worktree", "add", "--detach", folder, run.commit])
    if patch := patch_of(run.folder, run.record):
        yield shlex.join(["git", "-C", folder, "apply", "--whitespace=nowarn", patch])
    yield from copy_env(history.experiment, repository, folder)
    yield shlex.join(["cd", folder])
    yield f'EXPERIMENT_ROOT="$PWD/experiments" {command_in_worktree(run)}'


def has_commit(repository: Repository, commit: str) -> bool:
    try:
        run_git(repository.root, "cat-file", "-e", f"{commit}^{{commit}}")
    except GitError:
        return False
    return True


def new_worktree(repository: Repository, commit: str) -> Path:
    """Return a free path beside the repository. An earlier command may have made a worktree of the same commit."""
    first = repository.root.with_name(f"{repository.root.name}-{commit[:8]}")
    others = (first.with_name(f"{first.name}_{number}") for number in count(2))
    return next(path for path in chain([first], others) if not os.path.lexists(path))


def free_name(run: RunInfo) -> str:
    """Return a `--name` for a point that is not computed there yet: each folder has a point once."""
    campaigns = Path(run.folder).parents[1]
    names = chain(["again"], (f"again{number}" for number in count(2)))
    return next(name for name in names if not (campaigns / f"{grid_of(run)}.{name}" / run.point).exists())


def grid_of(run: RunInfo) -> str:
    """Return the configuration of a campaign, without its name."""
    return run.config.partition(".")[0]


def copy_env(experiment: Experiment, repository: Repository, folder: str) -> Iterator[str]:
    """Yield the command that copies .env to a worktree. Git does not have it."""
    env = find_env(experiment)
    if env.is_file() and env.is_relative_to(repository.root):
        yield shlex.join(["cp", os.path.relpath(env), f"{folder}/{env.relative_to(repository.root)}"])


def command_in_worktree(run: RunInfo) -> str:
    """Return the recorded command, with the script's path from the repository's root if it starts one."""
    command, script = text_of(run.record.get("command")), text_of(run.record.get("script"))
    words = shlex.split(command)
    places = [number for number, word in enumerate(words) if Path(word).name == Path(script).name]
    if script.startswith("experiments/") and places:
        words[places[0]] = script
    if run.point and f"point={run.point}" in words:
        words = [word for word in words if not word.startswith("config=")]
        words.append(f"config={grid_of(run)}.{free_name(run)}")
    return shlex.join(words)
