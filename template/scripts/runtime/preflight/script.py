"""One script in a process of its own: what its text, its import and its configurations show."""

import importlib
import importlib.util
import os
import os.path as osp
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from runtime import hydra_help
from runtime.paths import PACKAGE, package_error
from runtime.preflight.composition import Entry, check_configuration, entry_of, recorded
from runtime.preflight.findings import Findings, is_of_a_job, one_line, raised
from runtime.preflight.source import Source, is_found

MODULE = "__mp_main__"  # the name under which multiprocessing imports a script, too


@dataclass(frozen=True)
class Surroundings:
    """What all scripts start with: their environment, sys.path but for its first folder, and what is wrong there."""

    environment: dict[str, str]
    path: list[str]
    problems: list[str]


class Arguments(list[str]):
    """The words of a command, with a note of whether more was read of them than the name of the script."""

    were_read = False

    def __getitem__(self, index: Any) -> Any:
        self.were_read |= index != 0
        return super().__getitem__(index)


def noting(name: str) -> Any:
    def method(self: Arguments, *values: Any) -> Any:
        self.were_read = True
        return getattr(list, name)(self, *values)

    return method


for name in ("__iter__", "__len__", "__contains__", "__add__", "__eq__", "copy", "index", "count", "pop", "remove"):
    setattr(Arguments, name, noting(name))


@dataclass
class Script:
    """A script, and what was found before any of its configurations is composed."""

    words: list[str]
    own: dict[str, str]  # of its environment
    surroundings: Surroundings
    findings: Findings = field(default_factory=Findings)
    source: Source | None = None
    module: ModuleType | None = None
    needs_own_process: bool = False  # since its import depends on its arguments

    def __post_init__(self) -> None:
        self.known = dict(os.environ)  # with what .env sets
        self.path = self.words[0]
        self.findings.problems += self.surroundings.problems
        self.environment = self.surroundings.environment | self.own
        start_anew(self.path, self.environment, self.surroundings.path)
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
        """Check the imports of a script that is not imported now."""
        assert self.source
        if not self.source.is_importable or self.source.answers_dry_run or self.findings.problems:
            if "runtime" in self.source.modules:
                importlib.import_module("runtime")  # which adds this tree to sys.path
            found = self.missing_imports()
            self.findings.problems[:0] = found.problems
            self.findings.notes += found.notes
            self.check_package()
        if self.source.uses_hydra and not self.source.is_importable:
            guard = 'if __name__ == "__main__":'
            self.findings.add(f"{self.path}: its configuration is not checked, since it has no `{guard}`", is_note=True)

    def missing_imports(self) -> Findings:
        """Return the imports that would fail. One that may not be reached is a note."""
        assert self.source
        found = Findings()
        for each in sorted(self.source.imports(), key=lambda each: (each.line, each.name)):
            if not is_found(each.name):
                line = f"{self.path}: line {each.line}: no module named {each.name} for {sys.executable}"
                found.add(line, is_note=not each.is_certain or self.source.changes_path)
        return found

    def load(self) -> None:
        """Import the script, unless that would run it."""
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

    def report(self, error: BaseException) -> None:
        """Report why a script cannot be imported."""
        missing = self.missing_imports()
        if isinstance(error, SystemExit) and error.code in (None, 0):
            self.findings.add(f"{self.path}: it exits when it is imported, so nothing more is checked", is_note=True)
        elif isinstance(error, ImportError) and missing.problems:
            self.findings.extend(missing)
        else:
            line = f"{self.path}: {raised(error, self.path)}"
            self.findings.add(line, is_note=is_of_a_job(error))

    def check_package(self) -> None:
        """Check where the lab's package was imported from, or would be."""
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
        """Check the configuration with which the script starts, given these arguments."""
        if not self.module or not self.source:
            return Findings()
        entries = self.called_entries()
        if not entries and self.source.uses_hydra and "main" in self.source.attributes:
            note = f"{self.path}: its configuration is not checked: it calls no function with hydra.main"
            return Findings(notes=[note])
        if self.needs_own_process:
            arguments = self.arguments
        found = [self.configuration(entry, arguments) for entry in entries]
        sound = [each for each in found if not each.problems]
        if not sound:
            return merged(found)
        for each in found:  # which function is called may depend on the arguments
            each.notes += each.problems
            each.problems = []
        return merged(found)

    def configuration(self, entry: Entry, arguments: Sequence[str]) -> Findings:
        assert self.source and self.module
        return check_configuration(entry, self.path, self.module, arguments, self.known, self.source.reads_arguments)

    def called_entries(self) -> list[Entry]:
        """Return the functions with hydra.main that the script calls, or if none is found, all of its own."""
        assert self.source
        values = [self.value(name) for name in sorted(self.source.called())]
        called = [entry for entry in self.entries if any(entry_of(value, [entry]) for value in values)]
        return called or [entry for entry in self.entries if entry.module == MODULE]

    def value(self, name: str) -> Any:
        value: Any = self.module
        for part in name.split("."):
            value = getattr(value, part, None)
        return value


def merged(findings: Sequence[Findings]) -> Findings:
    whole = Findings()
    for each in findings:
        for line in each.problems:
            whole.add(line)
        for line in each.notes:
            whole.add(line, is_note=True)
        whole.inputs |= each.inputs
    return whole


def start_anew(script: str, environment: dict[str, str], path: list[str]) -> None:
    """Give this process what a script starts with: its environment, its path, and no `runtime` that is imported."""
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:] = [osp.dirname(osp.realpath(script)), *path]
    for name in [name for name in sys.modules if name == "runtime" or name.startswith("runtime.")]:
        del sys.modules[name]
    hydra_help.undo()


def import_script(script: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(MODULE, osp.abspath(script))
    assert spec and spec.loader, script
    module = importlib.util.module_from_spec(spec)
    KEPT.append(sys.modules["__main__"])
    sys.modules["__main__"] = sys.modules[MODULE] = module
    spec.loader.exec_module(module)
    return module


KEPT: list[ModuleType] = []  # or its functions would lose their names
