"""The options of sbatch in Slurm 22.05 to 26.05."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches


def names(text: str) -> set[str]:
    return set(text.split())


# Options that need a value.
VALUED = names(
    """
    account acctg-freq array batch bb bbf begin chdir cluster cluster-constraint clusters comment constraint container
    container-id container-type core-spec cores-per-socket cpu-freq cpus-per-gpu cpus-per-task deadline delay-boot
    dependency distribution error exclude export export-file extra extra-node-info gid gpu-bind gpu-freq gpus
    gpus-per-node gpus-per-socket gpus-per-task gres gres-flags hint input job-name kill-on-invalid-dep licenses
    mail-type mail-user mcs-label mem mem-bind mem-per-cpu mem-per-gpu mem-update mincpus network nodefile nodelist
    nodes ntasks ntasks-per-core ntasks-per-gpu ntasks-per-node ntasks-per-socket open-mode output partition power
    prefer priority profile qos reservation resources segment signal sockets-per-node switches tasks-per-node
    thread-spec threads-per-core time time-min tmp tres-bind tres-per-task uid wait-all-nodes wckey wrap
    """
)
# Options without a value, or with one that may be omitted: `--exclusive`, `--exclusive=user`.
FLAGS = names(
    """
    consolidate-segments contiguous exclusive get-user-env help hold ignore-pbs nice no-kill no-requeue oom-kill-step
    overcommit oversubscribe parsable propagate quiet reboot requeue resv-ports spread-job spread-segments stepmgr
    test-only usage use-min-nodes verbose version wait
    """
)
# Options of pyxis, the commonest plugin that adds options.
PLUGIN = names(
    """
    container-image container-mounts container-workdir container-name container-save container-mount-home
    no-container-mount-home container-remap-root no-container-remap-root container-entrypoint
    no-container-entrypoint container-entrypoint-log container-writable container-readonly container-env
    """
)
SHORT = {
    "A": "account", "a": "array", "B": "extra-node-info", "b": "begin", "C": "constraint", "c": "cpus-per-task",
    "D": "chdir", "d": "dependency", "e": "error", "F": "nodefile", "G": "gpus", "H": "hold", "h": "help",
    "i": "input", "J": "job-name", "k": "no-kill", "L": "licenses", "M": "clusters", "m": "distribution", "N": "nodes",
    "n": "ntasks", "O": "overcommit", "o": "output", "p": "partition", "Q": "quiet", "q": "qos", "S": "core-spec",
    "s": "oversubscribe", "t": "time", "V": "version", "v": "verbose", "W": "wait", "w": "nodelist", "x": "exclude",
}  # fmt: skip


@dataclass(frozen=True)
class Option:
    """An sbatch option in a launcher."""

    name: str  # its long name; as written if sbatch does not know it
    value: str | bool  # True without a value
    is_known: bool = True


def parse_options(words: Iterable[str]) -> list[Option]:
    """Read the options in the words of a line as sbatch does. Words that are not options are left out."""
    found, rest = [], list(words)
    while rest:
        word = rest.pop(0)
        if word.startswith("--") and len(word) > 2:
            name, equals, text = word[2:].partition("=")
            known = full_name(name)
            needs_value = known in VALUED and not equals
            value = rest.pop(0) if needs_value and rest else text
            found.append(Option(known or name, value if equals or needs_value else True, bool(known)))
        elif word.startswith("-") and len(word) > 1:
            known, text = SHORT.get(word[1], ""), word[2:]
            if known in VALUED and not text and rest:
                text = rest.pop(0)
            found.append(Option(known or word[1], text if known in VALUED else text or True, bool(known)))
    return found


def full_name(name: str) -> str:
    """Return the long name of an option, which may be abbreviated as far as it is unique; empty if unknown."""
    if name in VALUED or name in FLAGS or name in PLUGIN:
        return name
    matches = [other for other in VALUED | FLAGS if other.startswith(name)]
    return matches[0] if len(matches) == 1 else ""


def suggest(name: str) -> str:
    """Return the option that a mistyped name resembles most; empty if none does."""
    return next(iter(get_close_matches(name, sorted(VALUED | FLAGS), n=1)), "")
