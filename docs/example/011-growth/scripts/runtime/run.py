"""The run of a script: its names, figures, tables, metrics and status."""

import os
import os.path as osp
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from runtime import tracking
from runtime.campaign import EXPANDED, chosen_point, configuration_hash
from runtime.environment import refuse_other_experiment, refuse_other_package
from runtime.figures import keep_figure, promotion_hint, write_figure
from runtime.files import FileError, explain
from runtime.inputs import own_paths
from runtime.metrics import number, plain
from runtime.paths import FOLDER, PREFIX
from runtime.process import this_process
from runtime.record import Record, commit_text, plain_configuration, run_facts, versions
from runtime.requirements import (
    LACKS_FOLDER,
    LACKS_RUNTIME,
    changed_names,
    has_folder,
    has_runtime,
    lightning_problem,
    require_needs,
)
from runtime.savefig import SavefigWatch
from runtime.signals import Signals, Terminated
from runtime.tables import Row, columns_of, is_regular, keep_table, plain_rows, write_table

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from runtime.figures import Drawing


LONGEST_ERROR = 10_000  # characters of an error in a record
ENDED_WELL = ("finished", "paused", "pruned")


class Run:
    """The run of a script. provenance.json in the run's folder records it from start to end.

    folder   the folder for the record and for checkpoints; a requeued job finds them there
    name     the configuration's name, then the task of a job array or pack, then the number in a multirun (Hydra's
             -m); for a point, the campaign's and the point's name
    stem     the prefix of image names: the experiment's number and `name`
    is_main  whether this process is rank 0; other processes of the run save, log and record nothing
    trial    the Optuna trial of a sweep, to report intermediate values and to suggest further params; else None

    The name and the stem of an Optuna trial are the study's name and the trial's number.

    A script that continues after its job was requeued:

        checkpoint = osp.join(run.folder, "checkpoint.npz")
        done = int(np.load(checkpoint)["done"]) if osp.exists(checkpoint) else 0
        for step in range(done, cfg.steps):
            work(step)
            with atomic_write(checkpoint) as part:
                np.savez(part, done=step + 1)
    """

    trial: ClassVar[Any] = None  # set by optuna_worker.py

    def __init__(self, cfg: "DictConfig") -> None:
        """Take a configuration with conf/runtime.yaml among its defaults. Exits if it lacks that."""
        caller = sys._getframe(1)
        refuse_other_experiment(caller.f_globals.get("__file__"))
        refuse_other_package()
        if not has_runtime(cfg):
            sys.exit(LACKS_RUNTIME)
        if not has_folder(cfg):
            sys.exit(LACKS_FOLDER)
        for problem in changed_names(cfg):
            sys.exit(problem)
        self.cfg = cfg
        self.process = this_process()
        self.pid = os.getpid()
        self.is_main = self.process.is_main
        self.folder: str = cfg.folder
        self.script: str = caller.f_globals.get("__file__") or caller.f_code.co_filename  # a notebook has no __file__
        self.chosen = chosen_point()
        self.name = cfg.trial or "_".join([cfg.config, *([self.chosen.point.name] if self.chosen else self.numbers())])
        self.stem = cfg.trial or f"{PREFIX}-{self.name}"
        self.record = Record(self.folder)
        self.is_open = False
        self.columns: list[str] = []  # the columns of the run's table, once it is written
        self.savefig = SavefigWatch(self.notice_savefig)
        self.signals = Signals(by_hand=self.process.job is None and not self.process.is_distributed)
        self.problems: list[str] = []  # results that could not be written where the script asked
        self.wandb: Any = None
        self.has_savefig = False  # whether the script has saved a figure without run.save
        self.has_steps = False  # whether W&B knows the metric of the step

    def numbers(self) -> list[str]:
        """Return the numbers that distinguish runs of one configuration: the task, and the number in a multirun."""
        from runtime.claim import multirun_number

        return [str(number) for number in (self.process.task, multirun_number()) if number is not None]

    def table_name(self) -> str:
        """Return the path of the run's table in results/, without .csv."""
        return osp.join(self.chosen.campaign, self.chosen.point.name) if self.chosen else self.name

    def configuration_hash(self) -> str:
        """Return the hash of the configuration as it was composed. The runs of a multirun are composed one by one."""
        from runtime.claim import HASHES, multirun_number

        return HASHES[-1] if HASHES and multirun_number() is None else configuration_hash(self.cfg)

    def overrides(self) -> list[str]:
        """Return the overrides as they were typed, after those of the point. A ${oc.env:NAME} may be a secret."""
        from hydra.core.hydra_config import HydraConfig
        from omegaconf import OmegaConf

        if not HydraConfig.initialized():
            return []
        typed: Any = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
        own = (EXPANDED, "++config=") if self.chosen else ()
        return [override for override in typed if not override.startswith(own)]

    def __enter__(self) -> "Run":
        try:
            self.signals.watch()
            if self.is_main:
                self.start()
        except BaseException as error:
            self.end(error)
            raise
        self.is_open = True
        return self

    def start(self) -> None:
        from runtime.claim import refuse_taken_folder

        refuse_taken_folder(self.folder, self.process)
        if self.process.job and (problem := lightning_problem(os.environ)):
            sys.exit(problem)
        facts = {"config": self.cfg.config, "stem": self.stem, "folder": self.folder, "job": self.process.job_id}
        facts |= self.chosen.facts if self.chosen else {}
        facts |= {"overrides": self.overrides(), "configuration_hash": self.configuration_hash()}
        facts |= {"configuration": plain_configuration(self.cfg), "versions": versions()}
        self.record.begin(run_facts(self.script) | facts)
        has_wandb = self.cfg.wandb.mode != "disabled"
        if has_wandb:
            self.record.facts["wandb_id"] = tracking.find_id(self.cfg, self.record.facts["wandb_id"])
        self.record.identify(own_paths(self.cfg.inputs), with_changes=not self.cfg.trial)  # trials are many
        require_needs(self.cfg)  # the callback has not checked the configuration of a trial or of a multirun's run
        if has_wandb:
            self.wandb = tracking.start_wandb(self.cfg, self.stem, self.record.facts, self.chosen)
        self.savefig.start()

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata of the run's figures."""
        facts = self.record.facts
        metadata = {
            "Script": facts["script"],
            "Configuration": facts["config"],
            "Overrides": " ".join(facts["overrides"]),
            "Commit": commit_text(facts["commit"], facts["dirty"]),
            "Job": facts["job"] or "none",
            "Run": self.folder,
        }
        return metadata | ({"Trial": self.cfg.trial} if self.cfg.trial else {})

    def writes(self, what: str) -> bool:
        """Return whether this process writes results. Raises RuntimeError outside the run, or in a forked process."""
        if not self.is_open:
            raise RuntimeError(f"run.{what} must be called inside `with Run(cfg) as run:`.")
        if self.is_main and os.getpid() != self.pid:
            raise RuntimeError(f"run.{what} was called in a forked process. Call it in the process of the run.")
        return self.is_main

    def save(
        self, figure: "Drawing", path: str | os.PathLike[str], *, also: Sequence[str] = (), **options: Any
    ) -> None:
        """Write a matplotlib figure or animation with this run's metadata, like `save_figure`, and print its path.

        `also=["svg", "pdf"]` writes further formats under the same stem. `options` are those of matplotlib's savefig,
        like dpi=300, bbox_inches="tight" or transparent=True, or of an animation's `save`.

        A figure that cannot be written there is kept in the run's folder: both paths are printed, the script
        continues, and the run fails at its end. This includes a name without a timestamp that other overrides made.
        Trials write no figures if the sweep has `figures: null`.
        """
        if not self.writes("save") or (self.cfg.trial and self.cfg.sweep.figures is None):
            return
        try:
            written = write_figure(figure, path, also, self.metadata, options)
        except Exception as error:
            metadata = self.metadata
            self.keep(path, error, lambda: keep_figure(figure, self.folder, path, also, metadata, options), "figures")
            return
        for each in written:
            print(f"figure: {each}")
            self.add("figures", each)
        if self.wandb:
            tracking.log_figure(self.wandb, figure, path, self.stem, options)

    def table(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write rows (mappings with the same keys) to <name>.csv in the run's folder and in results/.

        The table of a point is <point>.csv, in results/<campaign>/.

        A run has one table: a second call replaces it. A table with other keys, or that cannot be written, is kept in
        the run's folder, and the run fails at its end.
        """
        if not self.writes("table"):
            return
        plain = plain_rows(rows)
        shared = osp.join(FOLDER, "results", f"{self.table_name()}.csv")
        own = osp.join(self.folder, osp.basename(shared))
        if problem := self.columns_problem(plain):
            kept = osp.basename(self.table_name())
            self.keep(shared, FileError(problem), lambda: [keep_table(self.folder, kept, plain)], "tables")
            return
        self.columns = columns_of(plain)
        errors = {path: self.try_table(path, plain) for path in (own, shared)}
        for path, other in ((own, shared), (shared, own)):
            if error := errors[path]:
                rest = "It is lost." if errors[other] else f"It is saved as: {other}"
                self.report(f"{explain(error, path)} {rest}")

    def try_table(self, path: str, rows: Sequence[Row]) -> OSError | None:
        """Write the run's table to a path. Return the error if that fails."""
        try:
            write_table(path, rows)
        except OSError as error:
            return error
        self.add("tables", path)
        return None

    def columns_problem(self, rows: Sequence[Row]) -> str | None:
        """Return a problem if rows do not fit the run's table, else None."""
        if not is_regular(rows):
            return "the rows have different keys. Give all rows of run.table the same keys."
        if self.columns and columns_of(rows) != self.columns:
            return f"the table of this run has the columns {', '.join(map(str, self.columns))}. Use the same columns."
        return None

    def keep(self, path: object, error: Exception, write: Callable[[], list[str]], kind: str) -> None:
        """Write a result to the run's folder by `write`, and report its path. Raises `error` if it cannot be drawn."""
        problem = explain(error, path)
        try:
            kept = write()
        except OSError as late:
            self.report(f"{problem} It is lost, because the run folder fails too: {explain(late, self.folder)}")
        except Exception:
            raise error from None
        else:
            self.report(f"{problem}{promotion_hint(error, kept[0], path)} It is saved as: {', '.join(kept)}")
            for each in kept:
                self.add(kind, each)

    def add(self, kind: str, path: str) -> None:
        """Add a result's path to the record. An error is only reported, and the script can save further results."""
        try:
            self.record.add(kind, path)
        except OSError as error:
            self.report(explain(error, self.record.path))

    def notice_savefig(self, path: str) -> None:
        """Record a figure that the script has written by matplotlib's own savefig. Only the first is reported.

        The record is not written here, because a script may save thousands of frames.
        """
        if os.getpid() != self.pid:  # a forked process has a copy of the record
            return
        figures = self.record.facts["figures"]
        if path in figures:
            return
        if not self.has_savefig:
            hint = "Save it, and others, by run.save(figure, path)."
            print(f"{path}: savefig does not record how a figure was made. {hint}", file=sys.stderr, flush=True)
        self.has_savefig = True
        figures.append(path)

    def report(self, problem: str) -> None:
        """Print a problem, and fail the run at its end."""
        print(problem, file=sys.stderr, flush=True)
        self.problems.append(problem)

    def log(self, *, step: int | float | None = None, **metrics: Any) -> None:
        """Record metrics, and send them to Weights & Biases if that is on. Scalars of numpy and torch are fine.

        provenance.json has the newest value of each, and metrics.jsonl their history with time and `step`, at most a
        second late. A resumed run may repeat a step. NaN and infinity, which JSON lacks, are recorded as "nan", "inf"
        and "-inf".
        """
        if not self.writes("log"):
            return
        if not metrics:
            raise TypeError("run.log was called without a number. Write run.log(step=STEP, NAME=NUMBER).")
        position = None if step is None else number("step", step)
        numbers = {name: number(name, value) for name, value in metrics.items()}
        plain_step = None if position is None else plain(position)
        self.record.measure({name: plain(value) for name, value in numbers.items()}, plain_step)
        if self.wandb and position is None:
            self.wandb.log(numbers)
        elif self.wandb:
            if not self.has_steps:
                tracking.define_step(self.wandb)
            self.has_steps = True
            self.wandb.log({**numbers, tracking.STEP: position})

    @property
    def time_left(self) -> float | None:
        """The seconds until the time limit ends this job. None in a run by hand, and if that is not known."""
        end = os.environ.get("EXPERIMENT_END")
        return float(end) - time.time() if end and self.process.job else None

    def pause(self) -> NoReturn:
        """End this run as paused, with exit code 0. The next leg of its chain continues it in the same folder.

        Call it in every process of the run. Raises RuntimeError in a trial, which cannot be continued.
        """
        self.writes("pause")
        if self.cfg.trial:
            raise RuntimeError("run.pause was called in a trial. Raise optuna.TrialPruned to end it.")
        raise Paused

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if os.getpid() != self.pid:  # a forked process must not end the run
            return
        self.is_open = False
        unwritten = Unwritten(self.problems) if self.problems and outcome(error)[0] in ENDED_WELL else None
        self.end(unwritten or error)
        if unwritten:
            self.fail(unwritten)

    def fail(self, unwritten: "Unwritten") -> NoReturn:
        """Exit with one line. In a multirun, raise an exception instead, which lets its other runs continue."""
        from runtime.claim import multirun_number

        if multirun_number() is not None:
            raise unwritten
        sys.exit(f"{self.folder}: the run failed, because the files listed above could not be written.")

    def end(self, error: BaseException | None) -> None:
        """Record how the run ended, close open resources, and then release a deferred signal."""
        if not error and self.signals.fatal:  # the script has caught the exception of the signal
            error = Terminated(self.signals.fatal.name)
        try:
            if self.is_main:
                self.finish(error)
        finally:
            self.signals.release(announce=self.is_main)

    def finish(self, error: BaseException | None) -> None:
        """Close open resources, and record how the run ended.

        An error is recorded first, because W&B may wait for its server longer than Slurm waits for this process.
        """
        if error:
            with self.signals.waiting(), suppress(OSError):  # the error is recorded again below
                self.record.end(*outcome(error))
        try:
            self.close(error)
            self.signals.hold()
            self.record.end(*outcome(error))
        except BaseException as late:
            self.signals.hold()
            self.record.end(*outcome(error or late))
            raise

    def close(self, error: BaseException | None) -> None:
        self.savefig.stop()
        if self.wandb:
            self.wandb.finish(exit_code=int(outcome(error)[0] not in ENDED_WELL))


class Paused(SystemExit):
    """Raised in a run by run.pause. The exit code is 0."""


class Unwritten(Exception):
    """Raised at the end of a run if results could not be written. Each was reported when that happened."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))


def outcome(error: BaseException | None) -> tuple[str, str | None]:
    """Return the status of a run that ended with this error or None, and the text of the error."""
    if isinstance(error, Terminated):
        return "terminated", str(error)
    if isinstance(error, KeyboardInterrupt):
        return "terminated", "SIGINT"
    if isinstance(error, Paused):
        return "paused", None
    if isinstance(error, Unwritten):
        return "failed", str(error)[:LONGEST_ERROR]
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return "finished", None
    if is_pruned(error):
        return "pruned", None
    return "failed", "".join(traceback.format_exception_only(error)).strip()[:LONGEST_ERROR]


def is_pruned(error: BaseException) -> bool:
    """Return whether an error is optuna.TrialPruned. Optuna is imported only by runs that use it."""
    return "optuna" in sys.modules and isinstance(error, sys.modules["optuna"].TrialPruned)
