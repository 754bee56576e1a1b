"""Checks of configurations: those that launchers name, and those that nothing names."""

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from experiments.checks.context import Context, Finding, check
from experiments.errors import one_line, reason
from experiments.experiment import LOADER
from experiments.git import run_git
from experiments.launcher import Launcher, Start
from experiments.shell import ANY, Command, pattern_of

DEFAULTS = re.compile(r"^defaults:.*(?:\n(?:[ \t-].*|[ \t]*(?:#.*)?))*", re.MULTILINE)
CONFIG_PATH = re.compile(r"config_path\s*=\s*[\"']([^\"']*)[\"']")
CONFIG_NAME = re.compile(r"config_name\s*=\s*[\"']")
NAME = re.compile(r"[\w.*-]+")
QUOTED = re.compile(r"[\"']([^\"'\n]*)[\"']")
BRACES = re.compile(r"\{[^{}]*\}")
SHORTEST = 3  # letters of a pattern outside --config-name: `$A_$B` could be anything


@check
def missing_config(context: Context) -> Iterator[Finding]:
    """A launcher with a missing configuration, or a Hydra script without any."""
    for launcher in context.launchers:
        for start in launcher.starts:
            script = context.locate(start.script)
            text = script.read_text(encoding="utf-8", errors="replace") if script and script.is_file() else ""
            if text and "hydra" not in text:
                continue
            if not start.configs and "hydra.main(" in text and not CONFIG_NAME.search(text) and ANY not in start.words:
                yield Finding(launcher.file, f"names no configuration for {start.script.rpartition('/')[2]}")
            for config in missing_configs(context, start, script, text):
                yield Finding(launcher.file, f"has no configuration {one_line(config)}")


def missing_configs(context: Context, start: Start, script: Path | None, text: str) -> Iterator[str]:
    """Yield the configurations of a start that do not exist, by their path from the experiment."""
    folder = config_folder(context, start, script, text)
    for config in start.configs if folder else ():
        name = config.removesuffix(".yaml")
        if name and ANY not in name and folder and not (folder / f"{name}.yaml").is_file():
            path = folder / f"{name}.yaml"
            base = context.path if path.is_relative_to(context.path) else context.root
            yield path.relative_to(base).as_posix() if path.is_relative_to(base) else str(path)


def config_folder(context: Context, start: Start, script: Path | None, text: str) -> Path | None:
    """Return the folder of a start's configurations; None if it is unknown."""
    if ANY in start.config_folder:
        return None
    if start.config_folder:
        return (script.parent / start.config_folder).resolve() if script else None
    if found := CONFIG_PATH.search(text):
        return None if ":" in found[1] or not script else (script.parent / found[1]).resolve()
    return script.parent.parent / "conf" if script else context.path / "conf"


def program_of(path: Path) -> str:
    """Return the program of a W&B sweep file, which is not a Hydra configuration; empty for any other file."""
    try:
        text = path.read_text(encoding="utf-8")
        if not all(re.search(rf"^{key}:", text, re.MULTILINE) for key in ("program", "method", "parameters")):
            return ""
        loaded: Any = yaml.load(text, LOADER)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return ""
    return str(loaded["program"]) if isinstance(loaded, dict) else ""


@check
def sweep_program(context: Context) -> Iterator[Finding]:
    """A W&B sweep of a missing script, for example after a rename."""
    for config in context.configurations:
        program = program_of(context.path / f"conf/{config}.yaml")
        if program and not (context.root / program).is_file():
            yield Finding(f"conf/{config}.yaml", f"names the program {one_line(program)}, which does not exist")


def read_defaults(path: Path) -> list[Any]:
    """Return the list `defaults` of a configuration; empty if it has none or cannot be read."""
    try:
        found = DEFAULTS.search(path.read_text(encoding="utf-8"))
        loaded: Any = yaml.load(found[0], LOADER) if found else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return []
    defaults = loaded.get("defaults") if isinstance(loaded, dict) else None
    return defaults if isinstance(defaults, list) else []


def bases_of(path: Path, conf: Path) -> Iterator[Path]:
    """Yield the files in the defaults list of a configuration, except Hydra's own and those with a variable."""
    for entry in read_defaults(path):
        pairs = entry.items() if isinstance(entry, dict) else [("", entry)]
        for group, value in pairs:
            for name in value if isinstance(value, list) else [value]:
                if base := base_of(str(group), name, path.parent, conf):
                    yield base


def base_of(group: str, name: Any, folder: Path, conf: Path) -> Path | None:
    """Return the file of one entry of `defaults`."""
    if not isinstance(name, str) or name in ("_self_", "???") or "${" in name or "${" in group:
        return None
    words = [*group.split(), *name.split()]
    if "override" in words or "optional" in words or group.lstrip("/").startswith("hydra"):
        return None
    path = "/".join(word.partition("@")[0] for word in words).removesuffix(".yaml")
    if path.startswith("hydra/"):
        return None
    return (conf / path.lstrip("/") if path.startswith("/") else folder / path).with_name(f"{Path(path).name}.yaml")


@check
def missing_base(context: Context) -> Iterator[Finding]:
    """A configuration with a missing base in its defaults list."""
    conf = context.path / "conf"
    for path in context.files_of_conf:
        for base in bases_of(path, conf):
            if not base.is_file() and not is_stored(context, base.stem) and not has_search_path(context):
                name = path.relative_to(context.path).as_posix()
                yield Finding(name, f"has the base {one_line(base.stem)}, which does not exist")


def is_stored(context: Context, name: str) -> bool:
    """Return whether Python code of the repository may store a configuration of this name in Hydra's ConfigStore."""
    grep = (
        "grep",
        "--files-with-matches",
        "--untracked",
        "--all-match",
        "-e",
        "ConfigStore",
        "-e",
        f"[\"']{re.escape(name)}[\"']",
    )
    return bool(run_git(context.root, *grep, "--", "*.py", accept=(0, 1)))


def has_search_path(context: Context) -> bool:
    """Return whether a configuration makes Hydra look into other folders."""
    return any(b"searchpath" in path.read_bytes() for path in context.files_of_conf)


@check
def unused_config(context: Context) -> Iterator[Finding]:
    """A configuration that no launcher, script, sweep or other configuration uses."""
    left = unnamed(context)
    if left:
        left -= named_by_python(context, left) | named_by_others(context, left)
    for name in sorted(left):
        yield Finding(f"conf/{name}.yaml", "is a configuration that nothing runs")


def unnamed(context: Context) -> set[str]:
    """Return the configurations that no launcher, bash script, sweep, run or other configuration names."""
    conf = context.path / "conf"
    left = set(context.configurations)
    own = [path for path in sorted(context.path.glob("scripts/*.sh")) if path.is_file() and path.name != "submit.sh"]
    named: set[str] = set()
    for launcher in [*context.launchers, *map(Launcher.read, own)]:
        names, patterns = mentions(launcher)
        named |= names
        left -= names
        left -= {name for name in left if any(pattern.fullmatch(name) for pattern in patterns)}
    left -= {name for run in context.runs if f"{run.config}_run" in named for name in run.configurations}
    if left:
        left -= {base.stem for path in context.files_of_conf for base in bases_of(path, conf) if base.parent == conf}
    return {name for name in left if not program_of(conf / f"{name}.yaml")}


def mentions(launcher: Launcher) -> tuple[set[str], list[re.Pattern[str]]]:
    """Return the names in a launcher's code, and the patterns of names that variables complete."""
    texts = [text for command in launcher.commands for text in command_texts(command)]
    names = {name.removesuffix(".yaml") for text in texts for name in NAME.findall(text)}
    patterns = {text for start in launcher.starts for text in start.configs}
    patterns |= {start.config_pattern for start in launcher.starts if start.config_pattern.strip(ANY)}
    for text in texts:
        if "$" in text or "{" in text:
            pattern = BRACES.sub(ANY, pattern_of(text)).rpartition("/")[2].rpartition("=")[2]
            if len(re.findall(r"[A-Za-z]", pattern)) >= SHORTEST and ANY in pattern:
                patterns.add(pattern)
    return names, [as_regex(pattern) for pattern in patterns if ANY in pattern]


def command_texts(command: Command) -> Iterator[str]:
    """Yield the texts of a command, as written."""
    yield from command.words
    yield from command.files
    yield from (value for _, values in command.assigned for value in values)
    if command.program != "cat" or command.files or command.is_piped:
        yield command.document


def as_regex(pattern: str) -> re.Pattern[str]:
    """Return a regular expression for a name with ANY in it."""
    name = pattern.rpartition("/")[2].removesuffix(".yaml")
    return re.compile(re.sub(r"(?:\\\*)+", ".*", re.escape(name)))


def named_by_python(context: Context, names: set[str]) -> set[str]:
    """Return those of some configurations that a Python script of the experiment has in quotes."""
    found: set[str] = set()
    runtime = context.path / "scripts/runtime"
    for path in filter(Path.is_file, context.path.glob("scripts/**/*.py")):
        if path.is_relative_to(runtime):
            continue
        code = re.sub(r"^\s*#.*", "", path.read_text(encoding="utf-8", errors="replace"), flags=re.MULTILINE)
        for text in set(QUOTED.findall(code)):
            name = text.removesuffix(".yaml").rpartition("/")[2]
            pattern = BRACES.sub(ANY, re.sub(r"%\d*[ds]", ANY, name))
            if pattern in names:
                found.add(pattern)
            elif ANY in pattern and len(re.findall(r"[A-Za-z]", pattern)) >= SHORTEST:
                found |= {name for name in names if as_regex(pattern).fullmatch(name)}
    return found


def named_by_others(context: Context, names: set[str]) -> set[str]:
    """Return those of some configurations that launchers of other experiments take by --config-path."""
    found: set[str] = set()
    own = f"{context.path.name}/"
    for path in sorted(context.path.parent.glob("*/scripts/*.s*")):
        if path.suffix in (".slurm", ".sh") and path.parents[1] != context.path and path.is_file():
            text = path.read_bytes().decode(errors="replace")
            if own in text and any(name in text for name in names):
                named, patterns = mentions(Launcher(path.stem, text))
                found |= names & named
                found |= {name for name in names if any(pattern.fullmatch(name) for pattern in patterns)}
    return found


@check
def compose(context: Context) -> Iterator[Finding]:
    """A configuration that Hydra cannot compose, or with missing values (only with --compose, needs Hydra)."""
    from hydra import compose as compose_config
    from hydra import initialize_config_dir
    from omegaconf import OmegaConf

    if not (context.path / "conf").is_dir():
        return
    with warnings.catch_warnings():  # Hydra 1.3 needs `version_base`, and 1.4 warns about it
        warnings.filterwarnings("ignore", "The version_base parameter is deprecated")
        search = initialize_config_dir(str(context.path / "conf"), version_base="1.3")
    with search:
        for name in context.configurations:
            if program_of(context.path / f"conf/{name}.yaml"):
                continue
            try:
                composed = OmegaConf.to_container(compose_config(name), resolve=False)
            except Exception as error:  # errors of Hydra, OmegaConf and YAML have no common base class
                yield Finding(f"conf/{name}.yaml", f"does not compose: {reason(error)}")
                continue
            if missing := list(find_missing(composed)):
                yield Finding(f"conf/{name}.yaml", f"lacks a value of {', '.join(missing)}")


def find_missing(value: Any, name: str = "") -> Iterator[str]:
    """Yield the dotted names of values that are ??? in a composed configuration."""
    if value == "???":
        yield name
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from find_missing(part, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from find_missing(part, f"{name}[{number}]")
