"""The command line of `experiments`."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from experiments.errors import Problem, reason
from experiments.git import forget_hook_variables

DESCRIPTION = """Update many experiments, add and change their runs, list what ran, and check them.

  experiments update --commit                      update all experiments, one commit each
  experiments update experiments/011-x --dry-run   print what would change
  experiments add-run experiments/011-x growth delta_001
  experiments set-run experiments/011-x growth delta_001 mem=100g time=0-12:00:00 gres=null
  experiments check                                print what is wrong, one line each
  experiments list experiments/011-x               list its runs and their states
  experiments adopt experiments/005-old            adopt a folder that the template did not make"""


@dataclass(frozen=True)
class Command:
    """A command: its help, its arguments and its function."""

    name: str
    summary: str
    examples: str
    declare: Callable[[argparse.ArgumentParser], None]
    handler: Callable[[argparse.Namespace], int]


def declare_paths(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="*", metavar="PATH", help="an experiment; default: all under experiments/")


def count_from_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


count_from_one.__name__ = "number"  # what argparse calls it


def declare_update(parser: argparse.ArgumentParser) -> None:
    declare_paths(parser)
    parser.add_argument("--vcs-ref", metavar="REF", help="version of the template; default: its newest release")
    parser.add_argument(
        "--jobs",
        type=count_from_one,
        default=os.cpu_count() or 1,
        metavar="N",
        help="number of experiments to render in parallel",
    )
    parser.add_argument("--commit", action="store_true", help="make one commit per experiment")
    parser.add_argument("--dry-run", action="store_true", help="print what would change, and change nothing")


def handle_update(options: argparse.Namespace) -> int:
    from experiments.update import Options, update

    return update(options.paths, Options(options.vcs_ref, options.commit, options.dry_run), options.jobs)


def declare_add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="an experiment")
    parser.add_argument("script", metavar="SCRIPT", help="one of its scripts, or the name of a new one")
    parser.add_argument(
        "words", nargs="+", metavar="TOKEN [KEY=VALUE]", help="runs like delta_001, and options of sbatch for them"
    )


def handle_add_run(options: argparse.Namespace) -> int:
    from experiments.runs import add_run, parse_request

    tokens = [word for word in options.words if "=" not in word]
    request = parse_request([word for word in options.words if "=" in word])
    if not tokens:
        raise Problem("no run is named", "Write MACHINE_ID, like delta_001.")
    print(*add_run(options.path, options.script, tokens, request), sep="\n")
    return 0


def declare_set_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="an experiment")
    parser.add_argument("script", metavar="SCRIPT", help="one of its scripts")
    parser.add_argument("token", metavar="TOKEN", help="one of its runs, like gh_004")
    parser.add_argument(
        "words",
        nargs="+",
        metavar="KEY=VALUE",
        help="option of sbatch; true for a flag, null to omit it, empty for the machine's own value",
    )


def handle_set_run(options: argparse.Namespace) -> int:
    from experiments.runs import parse_request, set_run

    for path in set_run(options.path, options.script, options.token, parse_request(options.words)):
        print(path)
    return 0


def declare_check(parser: argparse.ArgumentParser) -> None:
    declare_paths(parser)
    parser.add_argument("--compose", action="store_true", help="also compose every configuration, which needs Hydra")
    parser.add_argument("--select", type=split_names, default=(), metavar="NAME,...", help="run only these checks")
    parser.add_argument("--ignore", type=split_names, default=(), metavar="NAME,...", help="do not run these checks")
    parser.add_argument(
        "--source", metavar="TEMPLATE", help="template of folders never adopted; default: that of the other experiments"
    )
    parser.add_argument("--list", action="store_true", help="print the names of the checks")


def split_names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def handle_check(options: argparse.Namespace) -> int:
    from experiments.check import Options, check, list_checks

    if options.list:
        return list_checks()
    return check(options.paths, Options(options.select, options.ignore, options.compose, options.source))


def declare_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path", nargs="?", metavar="PATH", help="list the runs of this experiment; default: all experiments"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--figure", metavar="FILE", help="print which run made a figure")


def handle_list(options: argparse.Namespace) -> int:
    from experiments.listing import list_experiments

    return list_experiments(options.path, options.json, options.figure)


def declare_adopt(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="FOLDER", help="folder in experiments/ that the template did not make")
    parser.add_argument("--source", metavar="TEMPLATE", help="template; default: that of the other experiments")
    parser.add_argument("--dry-run", action="store_true", help="print what would be added, and add nothing")


def handle_adopt(options: argparse.Namespace) -> int:
    from experiments.adopt import adopt

    return adopt(options.path, options.source, options.dry_run)


COMMANDS = (
    Command(
        "update",
        "bring a release of the template to experiments; skip those with uncommitted work or conflicts (exit code 3)",
        "experiments update --dry-run\nexperiments update --commit --jobs 2\nexperiments update --vcs-ref v1.2.0",
        declare_update,
        handle_update,
    ),
    Command(
        "add-run",
        "add runs to an experiment: the missing files and the recorded answer",
        "experiments add-run experiments/011-x growth delta_001 delta_002\n"
        "experiments add-run experiments/011-x growth gh-pack_003 ntasks=4 mem=100g",
        declare_add_run,
        handle_add_run,
    ),
    Command(
        "set-run",
        "change what a run requests of Slurm; its launcher keeps your edits",
        "experiments set-run experiments/011-x growth gh_004 mem=100g time=0-12:00:00 gres=null",
        declare_set_run,
        handle_set_run,
    ),
    Command(
        "check",
        "print what is wrong with experiments, one line each; a path may be of a folder that was never adopted",
        "experiments check\nexperiments check experiments/005-old --compose\n"
        "experiments check --ignore machine-path,version\nexperiments check --list",
        declare_check,
        handle_check,
    ),
    Command(
        "list",
        "list experiments, or the runs of one with their states, or the run that made a figure",
        "experiments list\nexperiments list experiments/011-x --json\nexperiments list --figure images/a.png",
        declare_list,
        handle_list,
    ),
    Command(
        "adopt",
        "make an experiment of a folder that the template did not make; nothing is overwritten",
        "experiments adopt experiments/005-old --dry-run\n"
        "experiments adopt experiments/005-old --source gh:lab/tc-exp-template",
        declare_adopt,
        handle_adopt,
    ),
)


def make_parser() -> argparse.ArgumentParser:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("experiments", description=DESCRIPTION, formatter_class=plain)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        added = commands.add_parser(
            command.name,
            help=command.summary,
            description=f"{command.summary[0].upper()}{command.summary[1:]}.",
            epilog=f"examples:\n{command.examples}".replace("\n", "\n  "),
            formatter_class=plain,
        )
        command.declare(added)
        added.set_defaults(handler=command.handler)
    return parser


def exit_at_signal(number: int, frame: object) -> NoReturn:
    """Exit as at Ctrl-C: what is half done is rolled back, and temporary files are removed."""
    sys.exit(128 + number)


def main(words: Sequence[str] | None = None) -> NoReturn:
    """Run a command, by default that of the command line. A problem is printed in one line, with exit code 1."""
    options = make_parser().parse_args(words)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            signal.signal(number, exit_at_signal)
    try:
        forget_hook_variables()
        code = options.handler(options)
        sys.stdout.flush()
        sys.exit(code)
    except BrokenPipeError:  # as of `experiments list | head`: the rest of the output goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except (Problem, OSError) as error:
        sys.exit(f"experiments: {reason(error)}")
    except KeyboardInterrupt:
        sys.exit(130)
