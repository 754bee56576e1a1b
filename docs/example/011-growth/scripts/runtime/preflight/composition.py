"""Compose the configurations of a script by its own hydra.main, without running it."""

import functools
import importlib
import inspect
import os
import os.path as osp
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, NamedTuple

from runtime import inputs
from runtime.campaign import CHOSEN, ChosenPoint, campaign_of, expand, read_grid
from runtime.files import try_to_write
from runtime.grid import Grid, GridError, Point
from runtime.paths import CONF, EXPERIMENT, SCRIPTS
from runtime.point_claims import other_script_problem
from runtime.preflight.findings import Findings, is_job_error, is_resolver_error, one_line
from runtime.preflight.points import check_points
from runtime.record import script_name
from runtime.requirements import (
    LACKS_RUNTIME,
    grid_problems,
    has_runtime,
    missing_fields,
    unmet_requirements,
    unresolved,
)


class Entry(NamedTuple):
    """A function with hydra.main: the decorated function, its module, and the name of its configuration."""

    function: Callable[[], Any]
    module: str
    config_name: str | None


@contextmanager
def recorded() -> Iterator[list[Entry]]:
    """Record each function that hydra.main decorates in this block."""
    entries: list[Entry] = []
    try:
        import hydra
    except ImportError:
        yield entries
        return
    decorate = hydra.main

    @functools.wraps(decorate)
    def main(*words: Any, **options: Any) -> Any:
        decorator = decorate(*words, **options)
        name = options.get("config_name", words[1] if len(words) > 1 else None)

        def record(task: Any) -> Any:
            function = decorator(task)
            entries.append(Entry(function, getattr(inspect.unwrap(function), "__module__", ""), name))
            return function

        return record

    hydra.main = sys.modules["hydra.main"].main = main  # type: ignore[attr-defined]
    yield entries
    hydra.main = sys.modules["hydra.main"].main = decorate  # type: ignore[attr-defined]


def find_entry(value: Any, entries: Sequence[Entry]) -> Entry | None:
    """Return the entry of a function, even if other decorators wrap it."""
    while value is not None:
        for entry in entries:
            if entry.function is value:
                return entry
        value = vars(value).get("__wrapped__") if hasattr(value, "__dict__") else None
    return None


def check_configuration(
    entry: Entry,
    script: str,
    module: ModuleType,
    arguments: Sequence[str],
    known: dict[str, str],
    reads_arguments: bool,
) -> Findings:
    """Return the findings of the configuration that a script composes for these arguments.

    `known` is the environment with the variables of .env. `reads_arguments` means that the script may have arguments
    that Hydra does not know, so its refusal is only a note.
    """
    found = Findings()
    with restored():
        try:
            words, chosen = expand([script, *arguments])
        except GridError as error:
            found.add(str(error))
            return found
        try:
            command = parse(words[1:])
        except Exception as error:
            line = f"{script}: Hydra rejected its arguments: {one_line(error)}"
            found.add(line, is_note=reads_arguments)
            return found
        except SystemExit:  # --version
            return found
        if not command:
            return found
        CHOSEN[:] = [chosen] if chosen else []
        check = Check(entry, script, uses_run(module), known, found)
        try:
            check.campaign(chosen.campaign if chosen else command.campaign(entry))
            grid = None if chosen else grid_of(command, entry)
        except GridError as error:
            found.add(str(error))
            return found
        if grid:
            check.grid(grid, command)
        else:
            check.configuration(command, command.label(entry))
    return found


@dataclass
class Check:
    """A script, and the findings of its composed configurations.

    known  the environment with the variables of .env
    """

    entry: Entry
    script: str
    has_run: bool
    known: dict[str, str]
    found: Findings

    def campaign(self, name: str) -> None:
        """Check that the folder of a configuration does not have the runs of another script."""
        if problem := other_script_problem(self.runs(name), script_name(self.script)):
            self.found.add(problem)

    def runs(self, campaign: str) -> str:
        """Return the folder of the runs of a campaign, or of another configuration."""
        return osp.join(self.known.get("DATA_ROOT", ""), "experiments", EXPERIMENT, "runs", campaign)

    def configuration(self, command: "Command", label: str) -> dict[str, Any] | None:
        """Compose a configuration and check it. Return its values, unresolved and without `hydra`; None if it fails."""
        from omegaconf import OmegaConf

        try:
            cfg = command.compose(self.entry, self.script)
        except (Exception, SystemExit) as error:
            text = one_line(error)
            remedy = missing_fields(text)
            self.found.add(f"{label}: {text} {remedy}" if remedy else f"{label}: {text}", is_note=is_job_error(error))
            return None
        if self.has_run and not has_runtime(cfg):
            self.found.add(f"{label}: {LACKS_RUNTIME}")
            return None
        check_values(cfg, label, self.found, command.is_multirun)
        self.found.is_unrecorded |= not has_runtime(cfg)
        if has_runtime(cfg):
            self.found.problems += grid_problems(cfg, command.is_multirun)
            if not self.found.problems:
                check_requirements(cfg, self.known, self.found)
        values: Any = OmegaConf.to_container(cfg, resolve=False)
        return dict(values)

    def grid(self, grid: Grid, command: "Command") -> None:
        """Check the points of a grid."""
        config = command.config_name(self.entry)
        campaign = campaign_of(config, command.overrides)
        typed = [word for word in command.overrides if not word.startswith("config=")]
        os.environ["RUN_NAME"] = grid.points[0].name

        def compose(label: str, point: Point, found: Findings) -> dict[str, Any] | None:
            CHOSEN[:] = [ChosenPoint(config, campaign, point)]
            words = [*(CHOSEN[0].overrides if self.has_run else point.overrides), *typed]
            combined = Command(command.options | {"config_name": point.config or config}, words, False)
            return replace(self, found=found).configuration(combined, f"conf/{config}.yaml: {label}")

        largest = int(os.environ.get("EXPERIMENT_LARGEST_GRID", len(grid.points)))
        if len(grid.points) > largest:
            self.found.add(
                f"conf/{config}.yaml: its grid has {len(grid.points)} points, but Slurm allows {largest}"
                " (MaxArraySize). Split the grid, or use a pack."
            )
        else:
            check_points(grid, compose, self.runs(campaign), self.found)


def grid_of(command: "Command", entry: Entry) -> Grid | None:
    """Return the grid of the primary configuration, if that is in conf/. Raises GridError."""
    config = command.config_name(entry)
    is_here = "config_path" not in command.options and osp.isfile(osp.join(CONF, f"{config}.yaml"))
    return read_grid(config) if is_here else None


@contextmanager
def restored() -> Iterator[None]:
    """Restore the environment, the working directory and Hydra's global state at the end of this block."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    environment, words, folder = dict(os.environ), sys.argv, os.getcwd()
    current, cfg = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    try:
        yield
    finally:
        CHOSEN.clear()
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = words
        os.chdir(folder)
        GlobalHydra.instance().hydra, HydraConfig.instance().cfg = current, cfg


# The command line -----------------------------------------------------------------------------------------------------


@dataclass
class Command:
    """The arguments of a script, as Hydra parses them."""

    options: dict[str, str]
    overrides: list[str]
    is_multirun: bool

    def config_name(self, entry: Entry) -> str:
        """Return the name of the primary configuration, without .yaml."""
        return (self.options.get("config_name") or entry.config_name or "").removesuffix(".yaml")

    def campaign(self, entry: Entry) -> str:
        """Return the name of the folder of its runs: that of the configuration, or another one that was typed."""
        typed = [word.partition("=")[2] for word in self.overrides if word.startswith("config=")]
        return typed[-1] if typed else self.config_name(entry)

    def label(self, entry: Entry) -> str:
        """Return the configuration's name for findings: its file, if that is in this experiment."""
        name = self.options.get("config_name") or entry.config_name or ""
        file = osp.join("conf", name if name.endswith(".yaml") else f"{name}.yaml")
        is_here = "config_path" not in self.options and osp.exists(osp.join(osp.dirname(SCRIPTS), file))
        return f"conf/{name}.yaml" if is_here else f"configuration {name}".rstrip()

    def compose(self, entry: Entry, script: str) -> Any:
        """Compose the configuration by the script's own hydra.main. A sweep gives that of its first run."""
        simple, has_sweep = first_values(self.overrides)
        cfg = self.show(entry, script, simple)
        self.is_multirun = self.is_multirun or str(cfg.hydra.mode) == "RunMode.MULTIRUN"
        if has_sweep and not self.is_multirun:
            return self.show(entry, script, self.overrides)  # raises Hydra's error
        return cfg

    def show(self, entry: Entry, script: str, overrides: Sequence[str]) -> Any:
        """Make hydra.main print the configuration instead of running the script, and return that configuration."""
        from hydra.core.hydra_config import HydraConfig

        task = inspect.unwrap(entry.function)
        if task.__module__ == "__mp_main__":
            task.__module__ = "__main__"
        options = [f"--{name.replace('_', '-')}={value}" for name, value in self.options.items()]
        # Printing the whole configuration would take a tenth of the time.
        sys.argv = [script, "--cfg", "all", "--package", "hydra.job", *options, *overrides]
        os.environ["HYDRA_FULL_ERROR"] = "1"  # otherwise Hydra prints an error and exits
        try:
            entry.function()
        finally:
            del os.environ["HYDRA_FULL_ERROR"]
        return parent_of(HydraConfig.get())


def parent_of(hydra: Any) -> Any:
    """Return the whole configuration. HydraConfig has only its key `hydra`, with the configuration as parent."""
    return hydra._get_parent()


def parse(arguments: Sequence[str]) -> Command | None:
    """Return the parsed arguments, or None if the script would not run. Raises ValueError if Hydra refuses them."""
    from hydra._internal.utils import get_args_parser

    def refuse(message: str) -> None:
        raise ValueError(message)

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[assignment]
    given = parser.parse_args(list(arguments))
    if given.help or given.hydra_help or given.cfg or given.info or given.shell_completion or given.experimental_rerun:
        return None
    options = {name: getattr(given, name) for name in ("config_name", "config_path", "config_dir")}
    mode = [word.partition("=")[2].upper() for word in given.overrides if word.startswith("hydra.mode=")]
    is_multirun = given.multirun or mode[-1:] == ["MULTIRUN"]
    return Command({name: value for name, value in options.items() if value}, given.overrides, is_multirun)


def first_values(overrides: Sequence[str]) -> tuple[list[str], bool]:
    """Return overrides with the first value of each sweep, and whether there is a sweep."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    simple, has_sweep = [], False
    for word in overrides:
        try:
            [override] = OverridesParser.create().parse_overrides([word])
        except HydraException:
            simple.append(word)  # Hydra raises the error later
            continue
        if not override.is_sweep_override():
            simple.append(word)
            continue
        has_sweep = True
        with suppress(Exception):  # a glob, or an interval of another sweeper, has no first value
            value = next(iter(override.sweep_string_iterator()))
            simple.append(f"{override.get_key_element()}={value}")
    return simple, has_sweep


# Values ---------------------------------------------------------------------------------------------------------------


def uses_run(module: ModuleType) -> bool:
    """Return whether a script has imported Run."""
    run = sys.modules.get("runtime.run")
    return run is not None and any(value is run.Run for value in vars(module).values())


def check_values(cfg: Any, label: str, found: Findings, is_multirun: bool) -> None:
    """Check that each key has a value and that the run's folder can be written."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf, open_dict, read_write

    for callback in (cfg.hydra.callbacks or {}).values():
        if str(OmegaConf.select(callback, "_target_")).startswith("runtime."):
            importlib.import_module("runtime")  # Hydra imports it too; it sets the variables for conf/runtime.yaml
    if not HydraConfig.initialized() or parent_of(HydraConfig.get()) is not cfg:
        HydraConfig.instance().set_config(cfg)
    resolved: Any = HydraConfig.get()  # a copy, which ${hydra:...} reads
    for hydra in (cfg.hydra, resolved):
        with read_write(hydra), open_dict(hydra):
            # Hydra sets these keys when a run starts.
            for key, value in {"job.num": 0, "job.id": "0", "runtime.output_dir": os.getcwd()}.items():
                OmegaConf.update(hydra, key, value)
    check_folder(cfg, "hydra.sweep.dir" if is_multirun else "hydra.run.dir", found)
    with read_write(cfg), open_dict(cfg):
        del cfg["hydra"]
    for key, error in unresolved(cfg):
        if error is None:
            found.add(f"{label}: {key} is ???. Give it a value.")
        else:
            found.add(f"{label}: {key}: {one_line(error)}", is_note=is_resolver_error(error) or is_job_error(error))


def check_folder(cfg: Any, key: str, found: Findings) -> None:
    """Check that the folder under `key` can be written or made."""
    from omegaconf import OmegaConf

    try:
        folder = existing_folder(osp.abspath(str(OmegaConf.select(cfg, key))))
    except Exception as error:
        found.add(f"{key}: {one_line(error)}", is_note=is_resolver_error(error) or is_job_error(error))
        return
    try:
        try_to_write(folder)
    except OSError:
        found.add(f"{key}: the folder is not writable: {folder}")


def existing_folder(folder: str) -> str:
    """Return a folder, or the nearest existing parent in which it would be made. A dangling symlink is followed."""
    while not osp.exists(folder):
        target = osp.realpath(folder) if osp.islink(folder) else folder
        folder = osp.dirname(folder) if target == folder else target
    return folder


checksum = functools.cache(inputs.checksum)  # the points of a campaign often have the same inputs


def check_requirements(cfg: Any, known: dict[str, str], found: Findings) -> None:
    """Check the requirements of the configuration, and record the checksums of its inputs."""
    os.environ.setdefault("DATA_ROOT", known["DATA_ROOT"])
    for problem in unmet_requirements(cfg):
        found.add(problem)
    if found.problems:
        return
    try:
        found.inputs = {path: checksum(inputs.located(path)) for path in inputs.declared(cfg.inputs)}
    except OSError as error:
        found.add(f"inputs: {error.filename} cannot be read: {error.strerror}")
    for path in inputs.declared(cfg.inputs):
        if note := inputs.size_note(path):
            found.add(note, is_note=True)
