"""Say what is wrong with a run before it waits in a queue: check.py SCRIPT ARGUMENT..., as launchers do at --check.

Each problem is one line on stderr, and the exit code is then 1. The script is imported and not run: one that would
run when it is imported, since it does not ask for __name__, is only read.
It needs nothing but the standard library, and of what the run itself uses dotenv, hydra and omegaconf.
"""

import argparse
import ast
import importlib
import importlib.util
import os
import os.path as osp
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from typing import Any, TextIO

# As for the script itself, modules beside it come first, and not those beside this file.
SCRIPTS = osp.dirname(osp.dirname(osp.realpath(__file__)))
sys.path[0] = SCRIPTS

from runtime.environment import SERVER, find_env  # noqa: E402
from runtime.files import try_to_write  # noqa: E402
from runtime.paths import EXPERIMENT, FOLDER, ROOT, location_error  # noqa: E402
from runtime.requirements import unmet_requirements  # noqa: E402

FOLDERS = ("DATA_ROOT", "ASSET_IMAGES_DIR", "EXPERIMENT_ROOT")


def main() -> None:
    if sys.argv[1:] == ["--folder"]:  # which a launcher asks for
        print(FOLDER)
        return
    _, script, *arguments = sys.argv
    with silence() as terminal:
        found = problems(script, arguments)
    for problem in found:
        print(problem, file=terminal)
    terminal.flush()
    sys.exit(1 if found else 0)


@contextmanager
def silence() -> Iterator[TextIO]:
    """Send what imports print, libraries in C too, to nowhere. Gives a file that still reaches stderr."""
    sys.stdout.flush()
    terminal = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace")
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    yield terminal


def problems(script: str, arguments: list[str]) -> list[str]:
    """What is wrong with a run, each in one line. Later checks need what earlier ones found in order."""
    found = list(syntax(script)) or [*imports(script), *environment()]
    if not found and osp.basename(script) == "query.py":
        found = [*query(arguments[0]), *options_of_query(arguments[1:]), *server()] or list(dry_run(script, arguments))
    return found or list(load(script, arguments))


# The script -----------------------------------------------------------------------------------------------------------


def parse(script: str) -> ast.Module:
    with open(script, "rb") as file:
        return ast.parse(file.read(), script)


def syntax(script: str) -> Iterator[str]:
    try:
        parse(script)
    except OSError as error:
        yield f"{script}: {error.strerror}"
    except SyntaxError as error:
        yield f"{script}: line {error.lineno}: {error.msg}"
    except ValueError as error:  # a NUL byte
        yield f"{script}: {error}"


def imports(script: str) -> Iterator[str]:
    """Each import of the file that would fail, also those inside functions."""
    for line, name in sorted(required_imports(parse(script))):
        if not is_found(name):
            yield f"{script}: line {line}: no module named {name} for {sys.executable}"


def required_imports(node: ast.AST) -> Iterator[tuple[int, str]]:
    """The lines and names of all modules that are imported, but where a script can do without."""
    if isinstance(node, ast.Import):
        yield from ((node.lineno, alias.name) for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.lineno, node.module
    elif isinstance(node, ast.Try) and any(map(catches_import_errors, node.handlers)):
        for child in [*node.handlers, *node.orelse, *node.finalbody]:
            yield from required_imports(child)
    elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        for child in node.orelse:
            yield from required_imports(child)
    else:
        for child in ast.iter_child_nodes(node):
            yield from required_imports(child)


def catches_import_errors(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    names = {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)}
    return bool(names & {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})


def is_found(name: str) -> bool:
    """Whether a module can be imported. Packages are not imported to look into them, since that can take long."""
    parts = name.split(".")
    try:
        spec = importlib.util.find_spec(parts[0])
        for depth in range(2, len(parts) + 1):
            locations = spec.submodule_search_locations if spec else None
            spec = find_submodule(".".join(parts[:depth]), locations) if locations else None
        if not spec and len(parts) > 1:
            importlib.import_module(name)  # its package may make it, like six.moves
    except Exception:
        return False
    return bool(spec) or name in sys.modules


def find_submodule(name: str, locations: list[str]) -> ModuleSpec | None:
    for finder in sys.meta_path:
        spec = finder.find_spec(name, locations) if hasattr(finder, "find_spec") else None
        if spec:
            return spec
    return None


# Its environment ------------------------------------------------------------------------------------------------------


def environment() -> Iterator[str]:
    """Load .env as a script does, and look at the folders that it names."""
    try:
        from dotenv import load_dotenv
    except ImportError:
        yield f"python-dotenv is not installed for {sys.executable}"
        return
    if problem := location_error():
        yield one_line(problem)
        return
    load_dotenv(find_env())
    for name in FOLDERS:
        folder = os.environ.get(name)
        if not folder:
            yield unset(name)
        elif not can_write(folder):
            yield f"{name} cannot be written: {folder}"
        elif name == "EXPERIMENT_ROOT" and osp.realpath(osp.join(folder, EXPERIMENT)) != osp.realpath(FOLDER):
            yield f"EXPERIMENT_ROOT does not hold {FOLDER}: {folder}"


def unset(name: str) -> str:
    return f"{name} is not set; set it in {osp.realpath(find_env())}"


def can_write(folder: str) -> bool:
    try:
        try_to_write(folder)
    except OSError:
        return False
    return True


def existing(folder: str) -> str:
    """The folder itself, or the one in which it would be made."""
    while not osp.lexists(folder):
        folder = osp.dirname(folder)
    return folder


# Its configuration ----------------------------------------------------------------------------------------------------


def options_of_query(arguments: list[str]) -> Iterator[str]:
    """Whether query.py takes these words, of which each --param has one after it."""
    before = ""
    for word in arguments:
        if before != "--param" and not word.startswith(("--param", "--overwrite")):
            yield f"a query takes --param KEY=JSON and --overwrite, and no override: {word}"
        before = word


def query(name: str) -> Iterator[str]:
    """Whether there is one query of this name or number."""
    folder = osp.join(osp.dirname(SCRIPTS), "queries")
    names = [file[:-4] for file in sorted(os.listdir(folder)) if file.endswith(".cql")] if osp.isdir(folder) else []
    found = [each for each in names if each == name or each.partition("_")[0] == name]
    if len(found) != 1 and name not in names:
        listed = ", ".join(found or names) or "none"
        yield f"query {name}: {'several have this number: ' if found else 'there are '}{listed}"


def server() -> Iterator[str]:
    """Whether the database is named. It is not asked: a compute node may reach it where this one does not."""
    for name in SERVER:
        if not os.environ.get(name):
            yield unset(name)


def dry_run(script: str, arguments: list[str]) -> Iterator[str]:
    """What query.py says of a query and its parameters before any server is asked."""
    done = subprocess.run([sys.executable, script, *arguments, "--dry-run"], capture_output=True, text=True)
    if done.returncode:
        yield (done.stderr.splitlines() or [f"{script} --dry-run ended with exit code {done.returncode}"])[-1]


def is_guarded(script: str) -> bool:
    """Whether to import a script is not to run it."""
    tests = [node.test for node in parse(script).body if isinstance(node, ast.If)]
    return any("__name__" in ast.dump(test) for test in tests)


def load(script: str, arguments: list[str]) -> Iterator[str]:
    """Import the script, and compose the configuration that its decorator or its arguments name."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-name", "-cn")
    parser.add_argument("--config-path", "-cp")
    options, overrides = parser.parse_known_args(arguments)
    decorators: list[dict[str, Any]] = []
    try:
        with recorded(decorators):
            if is_guarded(script):
                import_script(script)
    except (Exception, SystemExit) as error:
        yield f"{script}: {raised(error, script)}"
        return
    if osp.basename(script) == "query.py" or not (decorators or options.config_name):
        return
    decorator = decorators[-1] if decorators else {}
    folder = options.config_path or decorator.get("config_path") or "../conf"
    folder = osp.normpath(osp.join(osp.dirname(osp.abspath(script)), folder))
    yield from configuration(folder, options.config_name or decorator.get("config_name"), overrides)


@contextmanager
def recorded(decorators: list[dict[str, Any]]) -> Iterator[None]:
    """Note what a script gives to hydra.main."""
    try:
        import hydra
    except ImportError:
        yield
        return
    decorate = hydra.main

    def note(config_path: Any = None, config_name: Any = None, version_base: Any = None) -> Any:
        decorators.append({"config_path": config_path, "config_name": config_name})
        return decorate(config_path=config_path, config_name=config_name, version_base=version_base)

    hydra.main = note
    try:
        yield
    finally:
        hydra.main = decorate


def import_script(script: str) -> None:
    name = osp.splitext(osp.basename(script))[0]
    spec = importlib.util.spec_from_file_location(name, osp.abspath(script))
    assert spec and spec.loader, script
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.argv = [script]
    spec.loader.exec_module(module)


def raised(error: BaseException, script: str) -> str:
    """An exception in one line, with the script's line that led to it."""
    if isinstance(error, SystemExit):
        return one_line(error) or "it exits when it is imported"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if osp.realpath(frame.filename) == osp.realpath(script)]
    line = f"line {lines[-1]}: " if lines else ""
    return f"{line}{type(error).__name__}: {one_line(error)}"


def configuration(folder: str, name: str | None, overrides: list[str]) -> Iterator[str]:
    """What is wrong with a composed configuration."""
    from hydra import compose, initialize_config_dir
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf, open_dict

    importlib.import_module("runtime")  # it sets what conf/runtime.yaml interpolates
    try:
        with initialize_config_dir(folder, version_base="1.3"):
            cfg = compose(name, overrides, return_hydra_config=True)
    except Exception as error:
        yield f"conf/{name}.yaml: {one_line(error)}"
        return
    # What Hydra itself sets when a run starts.
    with open_dict(cfg):
        for key, value in {"job.num": 0, "job.id": "0", "runtime.output_dir": folder}.items():
            OmegaConf.update(cfg.hydra, key, value)
    HydraConfig.instance().set_config(cfg)
    try:
        output = cfg.hydra.run.dir
        if not can_write(existing(output)):
            yield f"the runs' folder cannot be written: {existing(output)}"
    except Exception as error:
        yield f"hydra.run.dir: {one_line(error)}"
    with open_dict(cfg):
        del cfg["hydra"]
    values = list(unresolved(cfg, ""))
    yield from (f"conf/{name}.yaml: {problem}" for problem in values)
    if not values:
        yield from unmet_requirements(cfg)


def unresolved(node: Any, prefix: str) -> Iterator[str]:
    """The keys that have no value: those left as ???, and interpolations that lead nowhere."""
    from omegaconf import Container, OmegaConf

    for key in range(len(node)) if OmegaConf.is_list(node) else list(node):
        where = f"{prefix}[{key}]" if OmegaConf.is_list(node) else f"{prefix}.{key}".lstrip(".")
        if OmegaConf.is_missing(node, key):
            yield f"{where} is ???: give it a value"
            continue
        try:
            value = node[key]
        except Exception as error:
            yield f"{where}: {one_line(error)}"
            continue
        if isinstance(value, Container) and not OmegaConf.is_interpolation(node, key):
            yield from unresolved(value, where)


def one_line(error: object) -> str:
    """An exception's text in one line, without what Hydra adds about itself, and with paths from the root."""
    text = str(error).partition("Config search path")[0].replace(f"{ROOT}/", "")
    lines = [line.strip() for line in text.splitlines()]
    return " ".join(line for line in lines if line and not line.startswith(("full_key:", "object_type=")))


if __name__ == "__main__":
    main()
