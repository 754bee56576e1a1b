"""The command line of `experiments`."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from experiments.errors import Problem, reason
from experiments.git import forget_callers_repository

DESCRIPTION = """Update many experiments, add and change their runs, list what ran, and say what is wrong.

  experiments update --commit                      all of them, one commit each
  experiments update experiments/011-x --dry-run   what would change
  experiments add-run experiments/011-x growth delta_001
  experiments set-run experiments/011-x growth delta_001 mem=100g time=0-12:00:00 gres=null
  experiments check                                what is wrong, one line each
  experiments list experiments/011-x               its runs, and their states
  experiments adopt experiments/005-old            a folder that the template did not make"""


@dataclass(frozen=True)
class Command:
    """A command: what its help says, how its words are declared, and what it does with them."""

    name: str
    summary: str
    examples: str
    declare: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


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
    parser.add_argument("--vcs-ref", metavar="REF", help="a version of the template; default: its newest release")
    parser.add_argument("--jobs", type=count_from_one, default=os.cpu_count() or 1, metavar="N", help="at one time")
    parser.add_argument("--commit", action="store_true", help="make one commit for each experiment")
    parser.add_argument("--dry-run", action="store_true", help="change nothing, and say what would change")


def run_update(options: argparse.Namespace) -> int:
    from experiments.update import Options, update

    return update(options.paths, Options(options.vcs_ref, options.commit, options.dry_run), options.jobs)


def declare_add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="an experiment")
    parser.add_argument("script", metavar="SCRIPT", help="a script of it, or the name of a new one")
    parser.add_argument("words", nargs="+", metavar="TOKEN [KEY=VALUE]", help="runs, then what they ask of Slurm")


def run_add_run(options: argparse.Namespace) -> int:
    from experiments.runs import add_run, parse_request

    tokens = [word for word in options.words if "=" not in word]
    request = parse_request([word for word in options.words if "=" in word])
    if not tokens:
        raise Problem("no run is named", "write MACHINE_ID, like delta_001")
    print(*add_run(options.path, options.script, tokens, request), sep="\n")
    return 0


def declare_set_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="an experiment")
    parser.add_argument("script", metavar="SCRIPT", help="a script of it")
    parser.add_argument("token", metavar="TOKEN", help="one of its runs, like gh_004")
    parser.add_argument(
        "words",
        nargs="+",
        metavar="KEY=VALUE",
        help="an option of sbatch; true for a flag, null to leave it out, nothing for the machine's own",
    )


def run_set_run(options: argparse.Namespace) -> int:
    from experiments.runs import parse_request, set_run

    for path in set_run(options.path, options.script, options.token, parse_request(options.words)):
        print(path)
    return 0


def declare_check(parser: argparse.ArgumentParser) -> None:
    declare_paths(parser)
    parser.add_argument("--compose", action="store_true", help="compose every configuration, which needs Hydra")


def run_check(options: argparse.Namespace) -> int:
    from experiments.check import check

    return check(options.paths, options.compose)


def declare_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", nargs="?", metavar="PATH", help="an experiment, whose runs are listed; default: all")
    parser.add_argument("--json", action="store_true", help="for scripts")
    parser.add_argument("--figure", metavar="FILE", help="say which run made a figure")


def run_list(options: argparse.Namespace) -> int:
    from experiments.listing import list_experiments

    return list_experiments(options.path, options.json, options.figure)


def declare_adopt(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="FOLDER", help="a folder in experiments/ that the template did not make")
    parser.add_argument("--source", metavar="TEMPLATE", help="default: that of the repository's other experiments")
    parser.add_argument("--dry-run", action="store_true", help="say what would be added, and add nothing")


def run_adopt(options: argparse.Namespace) -> int:
    from experiments.adopt import adopt

    return adopt(options.path, options.source, options.dry_run)


COMMANDS = (
    Command(
        "update",
        "bring a release of the template to experiments; where work is at stake, one is left as it was (exit code 3)",
        "experiments update --dry-run\nexperiments update --commit --jobs 2\nexperiments update --vcs-ref v1.2.0",
        declare_update,
        run_update,
    ),
    Command(
        "add-run",
        "add runs to an experiment: the files that it lacks, and the recorded answer",
        "experiments add-run experiments/011-x growth delta_001 delta_002\n"
        "experiments add-run experiments/011-x growth gh-pack_003 ntasks=4 mem=100g",
        declare_add_run,
        run_add_run,
    ),
    Command(
        "set-run",
        "change what a run asks of Slurm; its launcher keeps your edits",
        "experiments set-run experiments/011-x growth gh_004 mem=100g time=0-12:00:00 gres=null",
        declare_set_run,
        run_set_run,
    ),
    Command(
        "check",
        "say what is wrong with experiments, one line each; also with those that were never adopted",
        "experiments check\nexperiments check experiments/005-old --compose",
        declare_check,
        run_check,
    ),
    Command(
        "list",
        "list experiments, or the runs of one, with their states; and which run made a figure",
        "experiments list\nexperiments list experiments/011-x --json\nexperiments list --figure images/a.png",
        declare_list,
        run_list,
    ),
    Command(
        "adopt",
        "make an experiment of a folder that the template did not make; nothing there is overwritten",
        "experiments adopt experiments/005-old --dry-run\n"
        "experiments adopt experiments/005-old --source gh:lab/tc-exp-template",
        declare_adopt,
        run_adopt,
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
        added.set_defaults(run=command.run)
    return parser


def stop(number: int, frame: object) -> NoReturn:
    """End as Ctrl-C does: what is half done is taken back, and temporary files are removed."""
    sys.exit(128 + number)


def main(words: Sequence[str] | None = None) -> NoReturn:
    """Run a command, by default that of the command line. What is wrong is one line, with exit code 1."""
    options = make_parser().parse_args(words)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            signal.signal(number, stop)
    try:
        forget_callers_repository()
        code = options.run(options)
        sys.stdout.flush()
        sys.exit(code)
    except Problem as problem:
        sys.exit(f"experiments: {problem}")
    except BrokenPipeError:  # of `experiments list | head`; what is left is for nobody
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        sys.exit(f"experiments: {reason(error)}")
    except KeyboardInterrupt:
        sys.exit(130)
