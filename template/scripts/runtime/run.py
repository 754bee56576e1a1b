"""One run of a script."""

import cProfile
import csv
import math
import os
import os.path as osp
import sys
import traceback
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any

from runtime import tracking
from runtime.environment import refuse_other_experiment, refuse_other_package
from runtime.figures import save_figure
from runtime.files import atomic_write, link_new, part_of
from runtime.inputs import own_paths
from runtime.paths import EXPERIMENT, FOLDER
from runtime.process import this_process
from runtime.record import Record, run_facts, versions
from runtime.requirements import LACKS_RUNTIME, has_runtime, require_needs
from runtime.signals import Signals, Terminated

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from omegaconf import DictConfig


LONGEST_ERROR = 10_000  # characters, of what a record keeps


class Run:
    """One run of a script, which keeps its provenance.json in the run's folder from its start to its end.

    folder  where it keeps its record, and where a checkpoint belongs: a job that was requeued finds it there
    name    for tables: the configuration's, and the number of a task of a job array or pack, or of Hydra's -m
    stem    for images: the experiment's number, and the name
    is_main whether this process writes; of several that share a run, the others save, log and record nothing

    A trial of a sweep by Optuna has the study's name and its own number as its name and its stem.

    A script that goes on where it was, when its job is requeued:

        checkpoint = osp.join(run.folder, "checkpoint.json")
        done = json.loads(Path(checkpoint).read_text())["done"] if osp.exists(checkpoint) else 0
        for step in range(done, cfg.steps):
            work(step)
            write_json(checkpoint, {"done": step + 1})
    """

    def __init__(self, cfg: "DictConfig") -> None:
        """`cfg` is a configuration that has conf/runtime.yaml among its defaults. Exits where it has not."""
        caller = sys._getframe(1)
        refuse_other_experiment(caller.f_globals.get("__file__"))
        refuse_other_package()
        if not has_runtime(cfg):
            sys.exit(LACKS_RUNTIME)
        self.cfg = cfg
        self.process = this_process()
        self.pid = os.getpid()
        self.is_main = self.process.is_main
        self.folder: str = cfg.folder
        self.script: str = caller.f_globals.get("__file__") or caller.f_code.co_filename  # a notebook has no file
        self.name = cfg.trial or "_".join([cfg.config, *self.numbers()])
        self.stem = cfg.trial or f"{EXPERIMENT.split('-')[0]}-{self.name}"
        self.record = Record(self.folder)
        self.is_open = False
        self.columns: list[str] = []  # of its table
        self.signals = Signals()
        self.profiler: cProfile.Profile | None = None
        self.wandb: Any = None

    def numbers(self) -> list[str]:
        """Those that tell this run from others of its configuration: its task's, and its number of Hydra's -m."""
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        numbers = [] if self.process.task is None else [str(self.process.task)]
        if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
            numbers.append(str(HydraConfig.get().job.num))
        return numbers

    def overrides(self) -> list[str]:
        """Those of the command line as they were typed: what ${oc.env:NAME} stands for may be a secret."""
        from hydra.core.hydra_config import HydraConfig
        from omegaconf import OmegaConf

        if not HydraConfig.initialized():
            return []
        typed: Any = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
        return list(typed)

    def __enter__(self) -> "Run":
        if self.is_main:
            self.signals.watch()
            try:
                self.start()
            except BaseException as error:
                self.end(error)
                raise
        self.is_open = True
        return self

    def start(self) -> None:
        facts = {"config": self.cfg.config, "stem": self.stem, "folder": self.folder, "job": self.process.id}
        self.record.begin(run_facts(self.script) | facts | {"overrides": self.overrides(), "versions": versions()})
        self.record.identify(own_paths(self.cfg.inputs))
        require_needs(self.cfg)  # of a trial, or of a run of Hydra's -m, nobody has asked before
        if self.cfg.wandb.mode != "disabled":
            self.wandb = tracking.start(self.cfg, self.stem)
        if self.cfg.profiler.enabled:
            self.profiler = cProfile.Profile()
            self.profiler.enable()

    @property
    def metadata(self) -> dict[str, str]:
        """What a figure says of its run."""
        facts = self.record.facts
        metadata = {
            "Script": facts["script"],
            "Configuration": facts["config"],
            "Overrides": " ".join(facts["overrides"]),
            "Commit": f"{facts['commit']}{'-dirty' if facts['dirty'] else ''}",
            "Job": facts["job"] or "none",
            "Run": self.folder,
        }
        return metadata | ({"Trial": self.cfg.trial} if self.cfg.trial else {})

    def writes(self, what: str) -> bool:
        """Whether this process writes what is asked of the run. Raises RuntimeError where the run is not at work."""
        if not self.is_open:
            raise RuntimeError(f"run.{what} belongs inside `with Run(cfg) as run:`")
        if self.is_main and os.getpid() != self.pid:
            raise RuntimeError(f"run.{what} belongs in the run's own process, and this is one that it forked")
        return self.is_main

    def save(self, figure: "Figure", path: str | os.PathLike[str], **options: Any) -> None:
        """Write a figure of matplotlib with this run's metadata, as `save_figure` does, and print where it is.

        `options` are of matplotlib's savefig, like dpi=300, bbox_inches="tight" or transparent=True. A trial writes
        none where the sweep has `figures: null`.
        """
        if not self.writes("save") or (self.cfg.trial and self.cfg.sweep.figures is None):
            return
        written = save_figure(figure, path, self.metadata, **options)
        self.record.add("figures", written)
        print(f"figure: {written}")
        if self.wandb:
            tracking.log_figure(self.wandb, figure, path, self.stem, options)

    def table(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write rows, mappings with the same keys, to <name>.csv in the run's folder, and as the newest in results/.

        A run has one table. Written again, it is replaced; with other keys it is refused.
        """
        if not self.writes("table"):
            return
        try:
            rows = [{key: plain_cell(value) for key, value in dict(row).items()} for row in rows]
        except (TypeError, ValueError):
            rows = []
        if not rows or any(row.keys() != rows[0].keys() for row in rows):
            raise ValueError("run.table takes rows, at least one, all with the same keys, as df.to_dict('records')")
        columns = list(map(str, rows[0]))
        if self.columns and columns != self.columns:
            raise ValueError(f"a run has one table, and this one's has other columns: {', '.join(self.columns)}")
        self.columns = columns
        for folder in (self.folder, osp.join(FOLDER, "results")):
            path = osp.join(folder, f"{self.name}.csv")
            with atomic_write(path) as file:
                table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                table.writeheader()
                table.writerows(rows)
            self.record.add("tables", path)

    def log(self, **metrics: Any) -> None:
        """Record numbers, also of numpy or torch, in provenance.json, and in Weights & Biases where it is on.

        JSON has no NaN and no infinity: they are the texts "nan", "inf" and "-inf" there. The record has the newest,
        a second late at most.
        """
        if not self.writes("log"):
            return
        numbers = {name: number(name, value) for name, value in metrics.items()}
        self.record.measure({name: plain(value) for name, value in numbers.items()})
        if self.wandb:
            self.wandb.log(numbers)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if os.getpid() != self.pid:  # one that this one forked
            return
        self.is_open = False
        if self.is_main:
            self.end(error)

    def end(self, error: BaseException | None) -> None:
        """Close what is open, and then tell the record how the run ended. A signal waits for the record alone."""
        if not error and self.signals.came:  # the script has caught what was raised
            error = Terminated(self.signals.came.name)
        try:
            self.close(error)
            self.signals.hold()
            self.record.end(*outcome(error))
        except BaseException as late:
            self.signals.hold()
            self.record.end(*outcome(error or late))
            raise
        finally:
            self.signals.release()

    def close(self, error: BaseException | None) -> None:
        if self.profiler:
            self.profiler.disable()
            path = osp.join(FOLDER, "profiling_results", f"{self.stem}_{datetime.now():%Y-%m-%d-%H-%M-%S-%f}.prof")
            with part_of(path) as part:
                self.profiler.dump_stats(part)
                link_new(part, path)
        if self.wandb:
            self.wandb.finish(exit_code=int(outcome(error)[0] != "finished"))


def outcome(error: BaseException | None) -> tuple[str, str | None]:
    """The status of a run that ended with this error or none, and the text of the error."""
    if isinstance(error, Terminated):
        return "terminated", str(error)
    if isinstance(error, KeyboardInterrupt):
        return "terminated", "SIGINT"
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return "finished", None
    return "failed", "".join(traceback.format_exception_only(error)).strip()[:LONGEST_ERROR]


def plain_cell(value: Any) -> Any:
    """A number of torch, whose text has four digits, as Python's own; anything else as it is."""
    return value.item() if hasattr(value, "detach") and not value.shape else value


def number(name: str, value: Any) -> int | float:
    """A number, of Python, or of numpy or torch with one element."""
    found = value
    if hasattr(value, "item"):
        with suppress(ValueError, RuntimeError):  # it has several elements
            found = value.item()
    if not isinstance(found, int | float):
        raise TypeError(f"run.log takes numbers, and {name} is {value!r}")
    return found


def plain(value: int | float) -> int | float | str:
    """A number as JSON can have it."""
    return value if isinstance(value, int) or math.isfinite(value) else str(value)
