"""The study that all workers of an Optuna sweep share."""

import math
import os
import os.path as osp
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import optuna
from optuna.pruners import NopPruner
from optuna.samplers import GridSampler, QMCSampler
from optuna.study import StudyDirection
from optuna.trial import BaseTrial, FixedTrial, FrozenTrial, Trial, TrialState
from runtime.files import FileError, try_to_write
from runtime.hydra_help import instantiate_trusted
from runtime.optuna_journal import Journal, Lock, held
from runtime.process import queue_id, require_passed
from runtime.sharing import make_shared_folder, permission_hint

# The sweep of a configuration -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sweep:
    """The key `sweep` of a configuration.

    study         the name of the study and of its journal
    objective     the function to optimize, as MODULE.FUNCTION
    directions    minimize or maximize, for each value that the objective returns
    n_trials      the number of complete trials wanted
    max_failures  a worker stops after this many failed trials
    timeout       seconds after which a worker starts no further trial, or None
    figures       the folder in ASSET_IMAGES_DIR for figures of trials, or None to save none
    sampler       the Optuna sampler (`_target_`) with its arguments, including `seed`
    params        for each name a `type`, and the arguments of Optuna's suggest_<type>
    pruner        the Optuna pruner (`_target_`) with its arguments, or None to prune no trial
    """

    study: str
    objective: str
    directions: list[str]
    n_trials: int
    max_failures: int
    timeout: float | None
    figures: str | None
    sampler: dict[str, Any]
    params: dict[str, dict[str, Any]]
    pruner: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        """Check all values. Raises ValueError if one is invalid."""
        for key, (expected, is_valid) in CHECKS.items():
            value = getattr(self, key)
            if not is_valid(value):
                raise ValueError(f"sweep.{key} must be {expected}, but is {value!r}")
        if not is_count(self.sampler.get("seed"), least=0):
            raise ValueError(f"sweep.sampler.seed must be an integer, but is {self.sampler.get('seed')!r}")
        if self.pruner and len(self.directions) > 1:
            raise ValueError(f"sweep.pruner needs one direction, but sweep.directions has {len(self.directions)}")

    def new_sampler(self, **arguments: Any) -> Any:
        """Create the sampler. Raises an exception of Hydra or Optuna if it is unknown or has invalid arguments."""
        return instantiate_trusted(self.sampler, **arguments)

    def new_pruner(self) -> Any:
        """Create the pruner. Raises an exception of Hydra or Optuna if it is unknown or has invalid arguments."""
        return instantiate_trusted(self.pruner) if self.pruner else NopPruner()

    def propose(self, trial: BaseTrial) -> dict[str, Any]:
        """Return a trial's value of each param."""
        return {name: suggest(trial, name, param) for name, param in self.params.items()}

    def example(self) -> dict[str, Any]:
        """Return a valid value of each param. Raises ValueError if Optuna refuses a param."""
        values = {}
        for name, param in self.params.items():
            try:
                first = param["choices"][0] if "choices" in param else param["low"]
                values[name] = suggest(FixedTrial({name: first}), name, param)
            except (AttributeError, LookupError, TypeError, ValueError) as error:
                problem = f"sweep.params.{name} is not a float, int or categorical with valid bounds: {error}"
                raise ValueError(problem) from None
        return values


def suggest(trial: BaseTrial, name: str, param: Mapping[str, Any]) -> Any:
    arguments = {key: value for key, value in param.items() if key != "type"}
    return getattr(trial, f"suggest_{param['type']}")(name, **arguments)


def is_count(value: Any, least: int = 1) -> bool:
    return type(value) is int and value >= least


def is_directions(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(each in ("minimize", "maximize") for each in value)


def is_file_name(value: Any) -> bool:
    return isinstance(value, str) and value not in ("", ".", "..") and "/" not in value


def is_seconds(value: Any) -> bool:
    return type(value) in (int, float) and value > 0


CHECKS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "study": ("the name of a file", is_file_name),
    "objective": ("MODULE.FUNCTION", lambda value: isinstance(value, str)),
    "directions": ("a list of minimize and maximize", is_directions),
    "n_trials": ("an integer above 0", is_count),
    "max_failures": ("an integer above 0", is_count),
    "timeout": ("seconds above 0, or null", lambda value: value is None or is_seconds(value)),
    "figures": ("the name of a folder, or null", lambda value: value is None or is_file_name(value)),
    "sampler": ("an Optuna sampler with its arguments", lambda value: isinstance(value, dict)),
    "params": ("a mapping of names to their bounds", lambda value: isinstance(value, dict)),
    "pruner": ("an Optuna pruner with its arguments, or null", lambda value: isinstance(value, dict | None)),
}


def read_sweep(written: Any) -> Sweep:
    """Return the sweep of a configuration. Raises ValueError if it is invalid."""
    if not isinstance(written, dict):
        raise ValueError(f"sweep must be a mapping, but is {written!r}")
    sweep = dict(written)
    if "direction" in sweep and "directions" not in sweep:
        sweep["directions"] = [sweep.pop("direction")]
    keys = [field.name for field in fields(Sweep)]
    if "directions" not in sweep:
        raise ValueError("sweep.direction is missing. For an objective with several values, write directions.")
    if missing := [key for key in keys if key not in (*sweep, "pruner")]:
        raise ValueError(f"sweep: missing: {', '.join(missing)}")
    if unknown := [str(key) for key in sweep if key not in keys]:
        raise ValueError(f'sweep: unknown key "{unknown[0]}"; expected one of: direction, {", ".join(keys)}')
    return Sweep(**sweep)


# Workers --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Worker:
    """One attempt of a Slurm task, or outside Slurm one process.

    site      the user and the cluster; outside Slurm, the host
    job       the job, like 687_3; outside Slurm, the number of the process
    restarts  how often Slurm has requeued the job
    live      the user's jobs in squeue; passed on standard input, because Python may be in a container
    """

    site: str
    job: str
    restarts: int
    live: frozenset[str]

    def is_gone(self, site: str, job: str, restarts: int) -> bool:
        """Return whether another worker has ended. Workers of other sites and of newer jobs count as running."""
        if site != self.site:
            return False
        if job == self.job:
            return restarts < self.restarts
        if self.live:
            return job not in self.live and array_number(job) <= array_number(self.job)
        return not process_exists(int(job))


def array_number(job: str) -> int:
    """Return the number of a job without that of its task."""
    return int(job.split("_")[0])


def process_exists(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # the process belongs to another user
        return True
    return True


def this_worker() -> Worker:
    """Return this worker. Raises ValueError in a job that the list of jobs on standard input does not contain."""
    job = queue_id()
    if not job:
        return Worker(platform.node(), str(os.getpid()), 0, frozenset())
    live = frozenset(sys.stdin.read().split())
    if job not in live:
        raise ValueError(f"squeue lists {len(live)} jobs of this user, but not this job, {job}")
    require_passed(f"EXPERIMENT_JOB is {os.environ['EXPERIMENT_JOB']}", "SLURM_JOB_USER", "SLURM_CLUSTER_NAME")
    site = f"{os.environ['SLURM_JOB_USER']} on {os.environ['SLURM_CLUSTER_NAME']}"
    return Worker(site, job, int(os.environ.get("SLURM_RESTART_COUNT", 0)), live)


def make_folder(folder: str) -> None:
    """Make a folder of the sweep. Raises FileError if it cannot be written; a colleague may own it."""
    try:
        make_shared_folder(folder)
        try_to_write(folder)
    except OSError as error:
        hint = f" {permission_hint(folder)}" if isinstance(error, PermissionError) else ""
        raise FileError(f"{folder}: {error.strerror}.{hint}") from None


# The study ------------------------------------------------------------------------------------------------------------


class Study:
    """The study of a sweep. Workers call `claim`, and then `tell`, `prune` or `fail`."""

    def __init__(self, sweep: Sweep, folder: str, read_only: bool) -> None:
        """Open the study in a folder, or create it unless `read_only`.

        Raises ValueError if the study has other directions or params than the sweep, or if its journal is damaged.
        """
        self.sweep, self.name = sweep, sweep.study
        self.journal = Journal(osp.join(folder, f"{self.name}.journal"))
        self.claim_lock = Lock(f"{self.journal.path}.turn", grace_period=120)
        self.study = self.load() if read_only else self.begin()
        self.study.stop = lambda: None  # type: ignore[method-assign]  # GridSampler calls it, but only n_trials counts
        self.refuse_mismatch()

    def load(self) -> optuna.Study:
        if not osp.exists(self.journal.path):
            raise ValueError(f"study {self.name} has not started: {self.journal.path} does not exist")
        try:
            return optuna.load_study(study_name=self.name, storage=self.journal.storage())
        except KeyError:
            raise ValueError(f"study {self.name} has not started: it is not in {self.journal.path}") from None

    def begin(self) -> optuna.Study:
        sampler, pruner = self.sweep.new_sampler(), self.sweep.new_pruner()
        make_folder(osp.dirname(self.journal.path))
        with held(self.claim_lock):
            self.journal.begin()
            storage = self.journal.storage()
            if self.name not in [study.study_name for study in storage.get_all_studies()]:
                directions = [StudyDirection[direction.upper()] for direction in self.sweep.directions]
                optuna.create_study(study_name=self.name, storage=storage, directions=directions)
            study = optuna.load_study(study_name=self.name, storage=storage, sampler=sampler, pruner=pruner)
            if not study.get_trials(deepcopy=False):
                study.set_user_attr("params", self.sweep.params)
            return study

    def refuse_mismatch(self) -> None:
        """Raise ValueError if the study was created with other directions or params."""
        directions = [direction.name.lower() for direction in self.study.directions]
        params = self.study.user_attrs.get("params", self.sweep.params)
        if (directions, params) != (self.sweep.directions, self.sweep.params):
            raise ValueError(f"study {self.name} has another direction or other params. Choose a new name.")

    def trials(self, *states: str) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=[TrialState[state] for state in states] or None)

    def claim(self, worker: Worker) -> Trial | None:
        """Return a trial for a worker to run, or None if enough trials are complete or running.

        The trials of lost workers are queued again first. A lock admits one worker at a time, so no more than
        `n_trials` begin.
        """
        with held(self.claim_lock), self.journal.synced_once():
            for running in self.trials("RUNNING"):
                if "worker" not in running.user_attrs or worker.is_gone(*running.user_attrs["worker"]):
                    self.replace(running)
            if len(self.trials("COMPLETE", "RUNNING")) >= self.sweep.n_trials:
                return None
            self.seed()
            trial = self.study.ask()
            trial.set_user_attr("worker", [worker.site, worker.job, worker.restarts])
            return trial

    def propose(self, trial: Trial) -> dict[str, Any]:
        """Return a trial's value of each param."""
        with self.journal.synced_once():
            return self.sweep.propose(trial)

    def seed(self) -> None:
        """Seed the sampler by the number of the next trial, which makes proposals independent of the worker."""
        if isinstance(self.study.sampler, GridSampler | QMCSampler):  # all workers follow one sequence already
            return
        waiting = [trial.number for trial in self.trials("WAITING")]
        number = min(waiting, default=len(self.trials()))
        seed = np.random.SeedSequence([self.sweep.sampler["seed"], number]).generate_state(1)[0]
        self.study.sampler = self.sweep.new_sampler(seed=int(seed))

    def replace(self, lost: FrozenTrial) -> None:
        """Queue a lost trial again and mark it as failed. If this worker dies in between, it is still queued once."""
        if lost.number not in [trial.user_attrs.get("replaces") for trial in self.trials()]:
            params = lost.system_attrs.get("fixed_params", {}) | lost.params
            self.study.enqueue_trial(params, user_attrs={"replaces": lost.number})
        self.study.tell(lost.number, state=TrialState.FAIL)

    def values(self, returned: Any) -> list[float]:
        """Return an objective's result as one number for each direction. Raises TypeError or ValueError."""
        values = [float(value) for value in (returned if isinstance(returned, tuple | list) else [returned])]
        if len(values) != len(self.sweep.directions):
            raise ValueError(f"the objective returned {len(values)} values for {len(self.sweep.directions)} directions")
        if any(map(math.isnan, values)):
            raise ValueError("the objective returned nan")
        return values

    def tell(self, trial: Trial, values: list[float]) -> None:
        """Complete a trial with its values."""
        self.study.tell(trial, values)

    def prune(self, trial: Trial) -> None:
        """Record that a trial was pruned."""
        self.study.tell(trial, state=TrialState.PRUNED)

    def fail(self, trial: Trial, error: BaseException) -> None:
        """Record a trial's error."""
        trial.set_user_attr("error", repr(error))
        self.study.tell(trial, state=TrialState.FAIL)

    def best(self) -> list[FrozenTrial]:
        """Return the complete trials, best first. For several directions, return the Pareto front by number."""
        if len(self.sweep.directions) > 1:
            return sorted(self.study.best_trials, key=lambda trial: trial.number)
        is_up = self.sweep.directions == ["maximize"]
        return sorted(self.trials("COMPLETE"), key=lambda trial: trial.values, reverse=is_up)

    def __str__(self) -> str:
        states = ("COMPLETE", "RUNNING", "PRUNED", "FAIL")
        complete, running, pruned, failed = (len(self.trials(state)) for state in states)
        finished = " is finished" if complete >= self.sweep.n_trials else ""
        trials = f"{complete} of {self.sweep.n_trials} trials complete, {running} running, {failed} failed"
        trials += f", {pruned} pruned" if pruned else ""
        if not complete:
            best = ""
        elif len(self.sweep.directions) > 1:
            best = f", {len(self.best())} of them on the Pareto front"
        else:
            best = f", best {self.best()[0].value:.6g} in trial {self.best()[0].number}"
        equal = ". All values are equal: check whether the objective uses sweep.params" if self.is_constant() else ""
        return f"study {self.name}{finished}: {trials}{best}{equal}"

    def is_constant(self) -> bool:
        """Return whether several trials are complete, and all have the same values."""
        values = [trial.values for trial in self.trials("COMPLETE")]
        return len(values) > 1 and all(each == values[0] for each in values)
