"""Check one script in its own process: its text, its import and its configurations."""

import importlib
import importlib.util
import os
import os.path as osp
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, NamedTuple

from runtime import hydra_help
from runtime.campaign import CONFIG_OPTIONS
from runtime.paths import PACKAGE, package_error
from runtime.preflight.composition import Entry, check_configuration, find_entry, recorded
from runtime.preflight.findings import Findings, import_error, is_job_error, one_line
from runtime.preflight.source import Source, is_found
from runtime.requirements import lightning_problem

MODULE = "__mp_main__"  # multiprocessing imports scripts under this name, too


class Surroundings(NamedTuple):
    """What all scripts share. `path` is sys.path without its first entry, and `limit` the seconds for one step."""

    environment: dict[str, str]
    path: list[str]
    limit: int
    problems: list[str]


class Arguments(list[str]):
    """The words of a command as sys.argv. `were_read` is set if more than the script's name is read."""

    were_read = False

    def __getitem__(self, index: Any) -> Any:
        self.were_read |= index != 0
        return super().__getitem__(index)


def recording(name: str) -> Any:
    """Return a method of `list` that sets `were_read`."""

    def method(self: Arguments, *values: Any) -> Any:
        self.were_read = True
        return getattr(list, name)(self, *values)

    return method


for name in ("__iter__", "__len__", "__contains__", "__add__", "__eq__", "copy", "index", "count", "pop", "remove"):
    setattr(Arguments, name, recording(name))


@dataclass
class Script:
    """A script, and the findings of its text and import. They come before those of any configuration."""

    words: list[str]
    own: dict[str, str]  # the variables that only this script's launchers have
    surroundings: Surroundings
    findings: Findings = field(default_factory=Findings)
    source: Source | None = None
    module: ModuleType | None = None
    needs_own_process: bool = False  # its import depends on its arguments

    def __post_init__(self) -> None:
        self.known = dict(os.environ)  # includes the variables of .env
        self.path = self.words[0]
        self.findings.problems += self.surroundings.problems
        self.environment = self.surroundings.environment | self.own
        reset_process(self.path, self.environment, self.surroundings.path)
        try:
            self.source = Source(self.path)
        except OSError as error:
            self.findings.problems[:0] = [f"{self.path}: {error.strerror}"]
        except SyntaxError as error:
            self.findings.problems[:0] = [f"{self.path}: line {error.lineno}: {error.msg}"]
        except ValueError as error:  # a NUL byte
            self.findings.problems[:0] = [f"{self.path}: {error}"]
        else:
            self.read()

    @property
    def is_sound(self) -> bool:
        return not self.findings.problems

    def read(self) -> None:
        """Check the imports of a script that will not be imported."""
        assert self.source
        if not self.source.is_importable or self.source.answers_dry_run or self.findings.problems:
            if "runtime" in self.source.modules:
                importlib.import_module("runtime")  # it adds this tree to sys.path
            found = self.missing_imports()
            self.findings.problems[:0] = found.problems
            self.findings.notes += found.notes
            self.check_package()
        if self.source.uses_hydra and not self.source.is_importable:
            guard = 'if __name__ == "__main__":'
            line = f"{self.path}: its configuration is not checked, because the script has no `{guard}`"
            self.findings.add(line, is_note=True)

    def missing_imports(self) -> Findings:
        """Return the imports that would fail. An import that may never be reached is only a note."""
        assert self.source
        found = Findings()
        for each in sorted(self.source.imports(), key=lambda each: (each.line, each.name)):
            if not is_found(each.name):
                line = f"{self.path}: line {each.line}: no module named {each.name} for {sys.executable}"
                found.add(line, is_note=not each.is_certain or self.source.changes_path)
        return found

    def load(self) -> None:
        """Import the script, unless the import would run it."""
        assert self.source
        if not self.source.is_importable:
            return
        sys.argv = Arguments(self.words)
        with recorded() as self.entries:
            try:
                self.module = import_script(self.path)
            except BaseException as error:
                self.report(error)
        self.needs_own_process = getattr(sys.argv, "were_read", True) or list(sys.argv) != self.words
        self.arguments = list(sys.argv)[1:]
        if self.module:
            self.findings.extend(self.missing_imports())
            self.check_package()
            if problem := lightning_problem(self.environment):
                self.findings.add(problem)

    def report(self, error: BaseException) -> None:
        """Record why the script cannot be imported."""
        missing = self.missing_imports()
        if isinstance(error, SystemExit) and error.code in (None, 0):
            line = f"{self.path}: nothing more is checked, because the script exits when it is imported"
            self.findings.add(line, is_note=True)
        elif isinstance(error, ImportError) and missing.problems:
            self.findings.extend(missing)
        else:
            line = f"{self.path}: {import_error(error, self.path)}"
            self.findings.add(line, is_note=is_job_error(error))

    def check_package(self) -> None:
        """Check that the lab's package comes from this tree."""
        assert self.source
        problem = package_error()
        if not problem and self.imports_package():
            problem = package_error(modules=False)
        if problem:
            self.findings.add(one_line(problem))

    def imports_package(self) -> bool:
        assert self.source
        top = PACKAGE.partition(".")[0]
        return any(each.name.partition(".")[0] == top for each in self.source.imports())

    def compose(self, arguments: Sequence[str]) -> Findings:
        """Check the configuration that the script composes for these arguments."""
        if not self.module or not self.source:
            return Findings(is_unrecorded=bool(self.source and self.source.uses_hydra and not self.uses_runtime()))
        if self.environment.get("EXPERIMENT_MODE") == "plain":
            return Findings()
        entries = self.called_entries()
        if not entries and self.source.uses_hydra and "main" in self.source.attributes:
            note = f"{self.path}: its configuration is not checked, because the script calls no hydra.main function"
            return Findings(notes=[note])
        if self.needs_own_process:
            arguments = self.arguments
        elif not entries and not self.source.reads_arguments and names_configuration(arguments):
            return Findings(notes=[f"{self.path}: it does not read its configuration, because it has no hydra.main"])
        found = [self.configuration(entry, arguments) for entry in entries]
        sound = [each for each in found if not each.problems]
        if not sound:
            return merged(found)
        for each in found:  # the arguments may decide which function is called, so one sound function is enough
            each.notes += each.problems
            each.problems = []
        return merged(found)

    def configuration(self, entry: Entry, arguments: Sequence[str]) -> Findings:
        assert self.source and self.module
        return check_configuration(entry, self.path, self.module, arguments, self.known, self.source.reads_arguments)

    def uses_runtime(self) -> bool:
        return bool(self.source and "runtime" in self.source.modules)

    def called_entries(self) -> list[Entry]:
        """Return the functions with hydra.main that the script calls. If none is found, return all that it defines."""
        assert self.source
        values = [self.value(name) for name in sorted(self.source.called())]
        called = [entry for entry in self.entries if any(find_entry(value, [entry]) for value in values)]
        return called or [entry for entry in self.entries if entry.module == MODULE]

    def value(self, name: str) -> Any:
        """Return the value of a dotted name in the script, or None."""
        value: Any = self.module
        for part in name.split("."):
            value = getattr(value, part, None)
        return value


def names_configuration(arguments: Sequence[str]) -> bool:
    """Return whether arguments choose a configuration by Hydra's option."""
    return any(word.split("=")[0] in CONFIG_OPTIONS for word in arguments)


def merged(findings: Sequence[Findings]) -> Findings:
    """Return all findings as one, without duplicates."""
    whole = Findings()
    for each in findings:
        whole.extend(each)
    return whole


def reset_process(script: str, environment: dict[str, str], path: list[str]) -> None:
    """Give this process the environment and sys.path with which a script starts, and unload `runtime`."""
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:] = [osp.dirname(osp.realpath(script)), *path]
    for name in [name for name in sys.modules if name == "runtime" or name.startswith("runtime.")]:
        del sys.modules[name]
    hydra_help.restore_argparse()


def import_script(script: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(MODULE, osp.abspath(script))
    assert spec and spec.loader, script
    module = importlib.util.module_from_spec(spec)
    MAIN_MODULES.append(sys.modules["__main__"])
    sys.modules["__main__"] = sys.modules[MODULE] = module
    spec.loader.exec_module(module)
    return module


MAIN_MODULES: list[ModuleType] = []  # kept alive: a module that is collected clears the globals of its functions
