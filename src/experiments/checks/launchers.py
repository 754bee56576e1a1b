"""Checks of launchers. Their text is read; nothing in it is executed."""

import os
import re
import shlex
from collections.abc import Iterator

from experiments.checks.context import Context, Finding, check
from experiments.errors import one_line
from experiments.launcher import Launcher, LauncherName
from experiments.sbatch import suggest
from experiments.shell import Command

# Folders that every Linux has. An absolute path in another one exists on some machines only.
STANDARD = set("bin boot dev etc lib lib32 lib64 opt proc root run sbin sys tmp usr var".split())  # noqa: SIM905
ABSOLUTE = re.compile(r"(?<![\w$}~./*^@%+])/([A-Za-z][\w-]*)[^\s\"'`:;,|&()<>{}\]]*")
EXPERIMENT = re.compile(r"(?:^|/)experiments/([^/]+)")
PATTERN_PROGRAMS = {"sed", "awk", "gawk", "grep", "egrep", "perl", "tr", "rg"}  # their first argument is not a path
BIND = ("--bind", "-B", "--volume", "-v", "--container-mounts")

KILLS_TORCHRUN = re.compile(r"(?i)^([BR]*:)?\s*((SIG)?USR[12]|0*1[02])(@.*)?\Z")  # as in rules/checks.jinja

SECRET = re.compile(
    r"(?<![A-Za-z0-9])((?:--)?(?:[\w-]*[_-])?(?:PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|API[_-]?KEY|ACCESS[_-]KEY))"
    r"(=|\s+)([^\s\"',;]+)",
    re.IGNORECASE,
)
SECRET_IN_ADDRESS = re.compile(r"://[^/\s:@$*]+:[^/\s:@$*]+@")
LONG_SECRET = 16  # characters: a shorter TOKEN or KEY is rather the name of something


@check
def bash_syntax(context: Context) -> Iterator[Finding]:
    """A launcher with a bash syntax error."""
    suspects = [launcher for launcher in context.launchers if "\r\n" not in launcher.text]
    for launcher, message in context.syntax.errors_of(suspects).items():
        yield Finding(launcher.file, message)


@check
def dos_line_breaks(context: Context) -> Iterator[Finding]:
    """A launcher with DOS line breaks, which sbatch refuses."""
    for launcher in context.launchers:
        if "\r\n" in launcher.text:
            file = shlex.quote(os.path.relpath(context.path / launcher.file))
            yield Finding(launcher.file, f"has DOS line breaks. Convert them: sed -i 's/\\r$//' {file}")


@check
def missing_script(context: Context) -> Iterator[Finding]:
    """A launcher that starts a missing script."""
    for launcher in context.launchers:
        written = {name for command in launcher.commands for name in command.files}
        for name in dict.fromkeys(launcher.scripts):
            path = context.locate(name)
            if path and not path.exists() and name not in written:
                shown = path.relative_to(context.root).as_posix()
                own = f"{context.path.relative_to(context.root).as_posix()}/"
                yield Finding(launcher.file, f"runs {one_line(shown.removeprefix(own))}, which does not exist")


@check
def sbatch_option(context: Context) -> Iterator[Finding]:
    """An unknown sbatch option, such as a misspelled one."""
    for launcher in context.launchers:
        for option in launcher.directives:
            if not option.is_known:
                shown = one_line(f"--{option.name}" if len(option.name) > 1 else f"-{option.name}")
                other = suggest(option.name)
                hint = f'; did you mean "--{other}"?' if other else ""
                yield Finding(launcher.file, f'unknown sbatch option "{shown}"{hint}')


@check
def torchrun_signal(context: Context) -> Iterator[Finding]:
    """A signal before the time limit that kills torchrun but leaves its processes running."""
    for launcher in context.launchers:
        signal = str(launcher.options.get("signal", ""))
        if KILLS_TORCHRUN.match(signal) and any(start.mode == "ddp" for start in launcher.starts):
            time = signal.partition("@")[2]
            remedy = f"B:TERM@{time}" if time else "B:TERM"
            yield Finding(launcher.file, f"has signal {one_line(signal)}, which kills torchrun alone. Use {remedy}")


@check
def ignored_directive(context: Context) -> Iterator[Finding]:
    """An #SBATCH line that Slurm ignores, because it is indented or follows a command."""
    for launcher in context.launchers:
        for directive in launcher.script.ignored_directives:
            yield Finding(launcher.file, f"has a line that Slurm ignores: {one_line(directive.text)}")


def values_of(launcher: Launcher, option: str) -> list[str]:
    """Return the values of an option that Slurm takes, such as each of `--partition=a,b`."""
    value = launcher.options.get(option, "")
    return [part for part in value.split(",") if part] if isinstance(value, str) else []


def known_values(context: Context, launcher: Launcher, option: str) -> set[str]:
    """Return the values of an option in lab.yml. What users requested for the template's own launchers is known too."""
    known = {str(machine.get("sbatch", {}).get(option)) for machine in context.machines.values()}
    return known | {str(run.options.get(option)) for run in context.runs if launcher.is_rendered}


@check
def unknown_partition(context: Context) -> Iterator[Finding]:
    """A partition that no machine in lab.yml uses."""
    for launcher in context.launchers if context.machines else []:
        known = known_values(context, launcher, "partition")
        for value in values_of(launcher, "partition"):
            if value not in known:
                yield Finding(launcher.file, f"requests partition {one_line(value)}, which no machine of lab.yml has")


@check
def dead_account(context: Context) -> Iterator[Finding]:
    """An account that is not in lab.yml, on a partition where lab.yml has another account."""
    for launcher in context.launchers if context.machines else []:
        known = known_values(context, launcher, "account")
        partitions = values_of(launcher, "partition")
        hosts = [
            machine for machine in context.machines.values() if machine.get("sbatch", {}).get("partition") in partitions
        ]
        if hosts and not any("account" in machine["sbatch"] for machine in hosts):
            continue
        for value in values_of(launcher, "account"):
            if value not in known:
                yield Finding(launcher.file, f"requests account {one_line(value)}, which no machine of lab.yml has")


def log_folders(launcher: Launcher) -> list[str]:
    """Return the log folders of a launcher, as written, except those with a % in their name."""
    files = [launcher.options.get(option) for option in ("output", "error")]
    folders = [file.rpartition("/")[0] for file in files if isinstance(file, str) and file != "/dev/null"]
    return list(dict.fromkeys(folder for folder in folders if folder and "%" not in folder))


@check
def missing_log_folder(context: Context) -> Iterator[Finding]:
    """A missing log folder, which Slurm neither creates nor reports."""
    for launcher in context.launchers:
        for folder in log_folders(launcher):
            places = [context.root / folder]
            if not EXPERIMENT.search(folder):  # as of people who submit inside the experiment
                places += [context.path / folder, context.path / "scripts" / folder]
            moved = folder.startswith("/") or "chdir" in launcher.options
            if not moved and not names_other(context, folder) and not any(place.is_dir() for place in places):
                own = f"{context.path.relative_to(context.root).as_posix()}/"
                words = f"logs to {one_line(folder.removeprefix(own))}, which is missing: Slurm would lose every log"
                yield Finding(launcher.file, words)


@check
def foreign_log_folder(context: Context) -> Iterator[Finding]:
    """A launcher that logs into another experiment, for example after it was copied."""
    for launcher in context.launchers:
        for folder in log_folders(launcher):
            if other := names_other(context, folder):
                yield Finding(launcher.file, f"logs into another experiment: {one_line(other)}")


def names_other(context: Context, folder: str) -> str:
    """Return the other experiment in a path; empty if there is none."""
    found = EXPERIMENT.search(folder)
    return found[1] if found and found[1] != context.path.name else ""


@check
def machine_path(context: Context) -> Iterator[Finding]:
    """A path that exists on one machine only, such as /home/ada or /scratch."""
    for launcher in context.launchers:
        known = context.lab_text if launcher.is_rendered else ""
        found = next((path for path in absolute_paths(launcher) if path not in known), "")
        if found:
            yield Finding(launcher.file, f"has a path of one machine: {one_line(found)}")


def absolute_paths(launcher: Launcher) -> Iterator[str]:
    """Yield the absolute paths in a launcher's options and commands that are neither standard nor in a container."""
    mounted = [target for command in launcher.commands for target in mount_targets(command)]
    values = [value for option in launcher.directives if isinstance(value := option.value, str)]
    for text in [*values, *(part for command in launcher.script.commands for part in path_words(command))]:
        for found in ABSOLUTE.finditer(text):
            is_mounted = any(f"{found[0]}/".startswith(f"{target}/") for target in mounted)
            if found[1] not in STANDARD and not is_mounted:
                yield found[0]


def path_words(command: Command) -> Iterator[str]:
    """Yield the texts of a command that may have paths. Of a mount that is the part before the colon."""
    yield from command.files
    yield from (value for _, values in command.assigned for value in values)
    if command.is_message:
        return
    words = command.words[1 if command.program in PATTERN_PROGRAMS else 0 :]
    if command.program in PATTERN_PROGRAMS:
        words = tuple(word for word in words if not word.startswith("-"))[1:]
    for number, word in enumerate(words):
        if number and words[number - 1] in BIND:
            yield from (part.partition(":")[0] for part in word.split(","))
        elif word.startswith(tuple(f"{option}=" for option in BIND)):
            yield from (part.partition(":")[0] for part in word.partition("=")[2].split(","))
        else:
            yield re.sub(r":\?[^}]*\}", "}", word)  # a message, as in ${1:?usage: ...}
    if command.program != "cat" or command.files or command.is_piped:
        yield command.document


def mount_targets(command: Command) -> Iterator[str]:
    """Yield the folders that a container mounts at another path than on the host."""
    for number, word in enumerate(command.words):
        option, equals, value = word.partition("=")
        if option in BIND:
            value = value if equals else "".join(command.words[number + 1 : number + 2])
            for part in value.split(","):
                source, _, rest = part.partition(":")
                target = rest.partition(":")[0]
                if target.startswith("/") and target != source:
                    yield target.rstrip("/")


@check
def password(context: Context) -> Iterator[Finding]:
    """A password or a key in a launcher."""
    for launcher in context.launchers:
        names = list(dict.fromkeys(secrets(launcher)))
        if names:
            yield Finding(launcher.file, f"has a password: {', '.join(names)}. Read it from .env, and change it.")


def secrets(launcher: Launcher) -> Iterator[str]:
    """Yield the names of secrets with a literal value in a launcher."""
    for command in launcher.script.commands:
        assigned = [f"{name}={value}" for name, values in command.assigned for value in values]
        for text in [*assigned, "" if command.is_message else " ".join(command.words), command.document]:
            for found in SECRET.finditer(text):
                if is_secret(found[1], found[3]) and (found[2] == "=" or found[1].startswith("--")):
                    yield found[1].lstrip("-")
            if SECRET_IN_ADDRESS.search(text):
                yield "in an address"


def is_secret(name: str, value: str) -> bool:
    """Return whether a value is a secret itself, not a variable, a file, a switch or a placeholder."""
    if re.search(r"[$*`<>{}]", value) or value.startswith(("-", "/", "~", ".")):
        return False
    is_password = re.search(r"PASS|SECRET$", name, re.IGNORECASE)
    return bool(is_password) or (len(value) >= LONG_SECRET and not value.isdigit())


@check
def shared_number(context: Context) -> Iterator[Finding]:
    """Two launchers of one script with the same number."""
    first: dict[tuple[str, str], Launcher] = {}
    for launcher in context.launchers:
        name = next(LauncherName.parse(launcher.name, context.machines), None)
        if name:
            other = first.setdefault((name.script, name.number), launcher)
            if other != launcher and not is_successor(other, launcher):
                yield Finding(launcher.file, f"has the number {name.number}, but so does {other.file}")


def is_successor(one: Launcher, other: Launcher) -> bool:
    """Return whether one is the user's launcher of an adopted run, and the other one the template's."""
    return one.is_rendered != other.is_rendered and one.config == other.config != ""
