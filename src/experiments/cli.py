"""The command line of `experiments`: each command with its help, its arguments and its function."""

import argparse
import gc
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NoReturn

from experiments.errors import Problem, reason
from experiments.git import forget_hook_variables

DESCRIPTION = "Update experiments, add and change runs, list what ran, show figures, and find problems."
EPILOG = "`experiments COMMAND --help` prints the options of a command, with examples."

Handler = Callable[[argparse.Namespace], int]


@dataclass(frozen=True)
class Argument:
    """A positional argument or an option: the arguments of `ArgumentParser.add_argument`."""

    names: tuple[str, ...]
    settings: dict[str, Any]


@dataclass(frozen=True)
class Command:
    """A command. Its handler imports the modules that it needs, so other commands start fast."""

    name: str
    summary: str
    arguments: tuple[Argument, ...]
    examples: tuple[str, ...]
    handler: Handler


COMMANDS: list[Command] = []


def command(name: str, summary: str, *arguments: Argument, examples: Sequence[str]) -> Callable[[Handler], Handler]:
    """Register the decorated function as the handler of a command."""

    def register(handler: Handler) -> Handler:
        COMMANDS.append(Command(name, summary, arguments, tuple(examples), handler))
        return handler

    return register


def argument(*names: str, **settings: Any) -> Argument:
    return Argument(names, settings)


def count_from_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def state_name(text: str) -> str:
    """Return a state as it is printed: time-limit is "time limit"."""
    return text.lower().replace("-", " ").replace("_", " ")


count_from_one.__name__ = "number"  # what argparse calls it

PATH = argument("path", metavar="PATH", help="an experiment: its folder, its name or its number")
PATHS = argument("paths", nargs="*", metavar="PATH", help="an experiment; default: all under experiments/")
JSON = argument("--json", action="store_true", help="print JSON")
STATE = argument(
    "--state",
    nargs="+",
    default=[],
    type=state_name,
    metavar="STATE",
    help="only runs in these states, such as failed lost",
)


@command(
    "update",
    "update experiments to a release of the template; skip those with uncommitted work or conflicts (exit code 3)",
    PATHS,
    argument("--vcs-ref", metavar="REF", help="tag or commit of the template; default: its newest release"),
    argument(
        "--source", metavar="TEMPLATE", help="take the release from another template, such as your fork, and record it"
    ),
    argument(
        "--jobs",
        type=count_from_one,
        default=os.cpu_count() or 1,
        metavar="N",
        help="number of experiments to update in parallel; default: number of CPUs",
    ),
    argument("--commit", action="store_true", help="make one commit per experiment"),
    argument(
        "--conflicts",
        action="store_true",
        help="write both sides of a conflict into the file instead of skipping the experiment",
    ),
    argument("--dry-run", action="store_true", help="print what would change, and change nothing"),
    examples=(
        "experiments update --dry-run",
        "experiments update --commit --jobs 2",
        "experiments update --vcs-ref v1.2.0",
        "experiments update --source gh:lab/tc-exp-template --commit",
        "experiments update --conflicts experiments/011-x",
    ),
)
def handle_update(options: argparse.Namespace) -> int:
    from experiments.update import Options, update

    if options.commit and options.conflicts:
        raise Problem("--commit and --conflicts cannot be combined", "Resolve the conflicts first, then commit.")
    wanted = Options(options.vcs_ref, options.commit, options.dry_run, options.conflicts, options.source)
    return update(options.paths, wanted, options.jobs)


@command(
    "add-run",
    "add runs to an experiment: write their files and record them",
    PATH,
    argument("script", metavar="SCRIPT", help="one of its scripts, or the name of a new one"),
    argument(
        "words", nargs="+", metavar="TOKEN [KEY=VALUE]", help="runs such as delta_001, and sbatch options for them"
    ),
    examples=(
        "experiments add-run experiments/011-x growth delta_001 delta_002",
        "experiments add-run experiments/011-x growth gh-pack_003 ntasks=4 mem=100g",
    ),
)
def handle_add_run(options: argparse.Namespace) -> int:
    from experiments.edit_runs import add_run, parse_request

    tokens = [word for word in options.words if "=" not in word]
    request = parse_request([word for word in options.words if "=" in word])
    if not tokens:
        raise Problem("no run is given", "Write MACHINE_ID, such as delta_001.")
    print(*add_run(options.path, options.script, tokens, request), sep="\n")
    return 0


@command(
    "set-run",
    "change the Slurm options of a run and keep your edits of its launcher",
    PATH,
    argument("script", metavar="SCRIPT", help="one of its scripts"),
    argument("token", metavar="TOKEN", help="one of its runs, such as gh_004"),
    argument(
        "words",
        nargs="+",
        metavar="KEY=VALUE",
        help="sbatch option; true sets a flag, null removes the option, empty returns to the machine's value",
    ),
    examples=("experiments set-run experiments/011-x growth gh_004 mem=100g time=0-12:00:00 gres=null",),
)
def handle_set_run(options: argparse.Namespace) -> int:
    from experiments.edit_runs import parse_request, set_run

    for path in set_run(options.path, options.script, options.token, parse_request(options.words)):
        print(path)
    return 0


RUN = argument("run", metavar="RUN", help="launcher, configuration, or a token that is unique in the experiment")


@command(
    "rename-run",
    "rename a run, or move it to another machine",
    PATH,
    RUN,
    argument("new", metavar="NEW", help="new token, launcher or configuration"),
    examples=(
        "experiments rename-run experiments/011-x growth_gh_000 growth_gh_005",
        "experiments rename-run experiments/011-x gh_growth_000 delta_000",
    ),
)
def handle_rename_run(options: argparse.Namespace) -> int:
    from experiments.rename_runs import rename_run

    print(*rename_run(options.path, options.run, options.new), sep="\n")
    return 0


@command(
    "remove-run",
    "remove a run that was never started: its configuration, launcher and recorded answer",
    PATH,
    RUN,
    examples=("experiments remove-run experiments/011-x growth_gh_000",),
)
def handle_remove_run(options: argparse.Namespace) -> int:
    from experiments.rename_runs import remove_run

    print(*remove_run(options.path, options.run), sep="\n")
    return 0


def split_names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


@command(
    "check",
    "print the problems of experiments, one per line; also works for folders that were never adopted",
    PATHS,
    argument("--compose", action="store_true", help="also compose every configuration (needs Hydra)"),
    argument("--select", type=split_names, default=(), metavar="NAME,...", help="run only these checks"),
    argument("--ignore", type=split_names, default=(), metavar="NAME,...", help="do not run these checks"),
    argument(
        "--source",
        metavar="TEMPLATE",
        help="template for folders that were never adopted; default: that of the other experiments",
    ),
    argument("--list", action="store_true", help="print the names of the checks and what they report"),
    argument(
        "--figures",
        nargs="+",
        metavar="FOLDER",
        help="only check the images that Markdown and LaTeX files in these folders embed",
    ),
    examples=(
        "experiments check",
        "experiments check experiments/005-old --compose",
        "experiments check --figures notes paper",
    ),
)
def handle_check(options: argparse.Namespace) -> int:
    from experiments.check import Options, check, list_checks

    if options.list:
        return list_checks()
    if options.figures:
        from experiments.embedded import check_embedded

        if options.paths:
            raise Problem("--figures cannot be combined with a PATH", "Run the two checks separately.")
        return check_embedded(options.figures)
    return check(options.paths, Options(options.select, options.ignore, options.compose, options.source))


@command(
    "list",
    "list all experiments, or the runs of one experiment, or the run that made a figure",
    argument("path", nargs="?", metavar="PATH", help="list the runs of this experiment; default: all experiments"),
    STATE,
    argument("--config", nargs="+", default=[], metavar="CONFIG", help="only runs of these configurations"),
    argument("--last", type=count_from_one, metavar="N", help="only the N newest runs"),
    argument("--points", action="store_true", help="one row per point of a campaign and per run of a sweep"),
    JSON,
    argument("--figure", metavar="FILE", help="print which run made a figure"),
    examples=(
        "experiments list",
        "experiments list 011-x --state failed lost",
        "experiments list experiments/011-x --config round2 --points",
        "experiments list --figure images/a.png",
    ),
)
def handle_list(options: argparse.Namespace) -> int:
    from experiments.listing import Filter, list_experiments, show_figure

    if options.figure:
        return show_figure(options.path, options.figure, options.json)
    chosen = Filter(options.state, options.config, options.last, options.points)
    if chosen != Filter([], []) and not options.path:
        raise Problem("no experiment is given", "Write its PATH before --state, --config, --last or --points.")
    return list_experiments(options.path, chosen, options.json)


@command(
    "points",
    "print the points of a campaign and their states, and the command that submits the unfinished ones",
    PATH,
    argument("config", metavar="CONFIG", help="a configuration with a grid"),
    argument("--name", metavar="NAME", help="only the points of `submit.sh ... --name NAME`"),
    STATE,
    JSON,
    examples=(
        "experiments points 011-x round2",
        "experiments points 011-x round2 --state failed missing",
        "experiments points 011-x round2 --name smoke --json",
    ),
)
def handle_points(options: argparse.Namespace) -> int:
    from experiments.points import list_points

    return list_points(options.path, options.config, options.name, options.state, options.json)


@command(
    "compare",
    "compare runs: print the keys and metrics that differ, or means over runs",
    PATH,
    argument("runs", nargs="*", metavar="RUN", help="a run, a point or a job; default: all runs"),
    argument("--config", nargs="+", default=[], metavar="CONFIG", help="only runs of these configurations"),
    argument(
        "--by",
        default="",
        metavar="KEY",
        help="print means over finished runs for each arm (KEY is arm) or value of a configuration key",
    ),
    argument("--sort", default="", metavar="COLUMN", help="sort by a column"),
    argument("--csv", dest="form", action="store_const", const="csv", default="screen", help="print CSV"),
    argument("--markdown", dest="form", action="store_const", const="markdown", help="print a table in Markdown"),
    argument("--json", dest="form", action="store_const", const="json", help="print JSON, for --from"),
    argument(
        "--from",
        dest="files",
        nargs="+",
        default=[],
        metavar="FILE",
        help="add the runs of another cluster, saved there with --json",
    ),
    examples=(
        "experiments compare 011-x --config round2 --by arm",
        "experiments compare 011-x --config round2 --sort loss --csv",
        "experiments compare 011-x round2/wide_0 round2/wide_1",
        "experiments compare 011-x --from delta.json",
    ),
)
def handle_compare(options: argparse.Namespace) -> int:
    from experiments.compare import Options, compare

    wanted = Options(options.runs, options.config, options.by, options.sort, options.form, options.files)
    return compare(options.path, wanted)


@command(
    "show",
    "print the record of a run, or of the run that made a figure, and the commands that reproduce it",
    argument("path", nargs="?", metavar="PATH", help="an experiment: its folder, its name or its number"),
    argument("run", nargs="?", metavar="RUN", help="a run, a point or a job"),
    argument("--figure", metavar="FILE", help="show the run that made a figure"),
    examples=("experiments show 011-x round2/wide_0", "experiments show --figure images/a.png"),
)
def handle_show(options: argparse.Namespace) -> int:
    from experiments.show import show_figure_run, show_run

    if options.figure:
        return show_figure_run(options.path, options.figure)
    if not options.path or not options.run:
        raise Problem("no run is given", "Write PATH RUN, or --figure FILE.")
    return show_run(options.path, options.run)


@command(
    "usage",
    "compare what launchers request with what their jobs used, and print the commands that adjust the requests",
    PATH,
    examples=("experiments usage 011-x",),
)
def handle_usage(options: argparse.Namespace) -> int:
    from experiments.usage import show_usage

    return show_usage(options.path)


@command(
    "wandb-sync",
    "print the commands that upload offline W&B runs",
    PATH,
    argument("run", nargs="?", metavar="RUN", help="a run, a point or a job; default: all runs"),
    examples=("experiments wandb-sync 011-x", "experiments wandb-sync 011-x round2/wide_0 | bash"),
)
def handle_wandb_sync(options: argparse.Namespace) -> int:
    from experiments.wandb_sync import print_commands

    return print_commands(options.path, options.run)


@command(
    "logs",
    "print the path and the content of a job's log",
    PATH,
    argument("run", nargs="?", metavar="RUN", help="a job, a run or a point; default: the newest log"),
    argument("--follow", action="store_true", help="continue to print new lines until Ctrl-C"),
    examples=("experiments logs 011-x", "experiments logs 011-x 687_3 --follow", "experiments logs 011-x wide_0"),
)
def handle_logs(options: argparse.Namespace) -> int:
    from experiments.logs import show_log

    return show_log(options.path, options.run, options.follow)


@command(
    "figures",
    "write an HTML page of all figures and how each was made, or copy a figure to a stable name",
    argument("path", nargs="?", metavar="PATH", help="only the figures of this experiment; default: all experiments"),
    argument("--open", action="store_true", help="open the page in a browser"),
    argument("--output", metavar="FILE", help="file to write; default: figures.html next to the run folders"),
    argument("--markdown", action="store_true", help="print Markdown for a note, or write it to a new --output"),
    argument(
        "--promote",
        nargs=2,
        metavar=("FIGURE", "NAME"),
        help="copy a figure with its metadata to a stable name; replaces only a figure of the same script",
    ),
    examples=(
        "experiments figures --open",
        "experiments figures 011-x --output figures.html",
        "experiments figures 011-x --markdown",
        "experiments figures --promote images/a_2026-11-25-10-15-53.png growth",
    ),
)
def handle_figures(options: argparse.Namespace) -> int:
    from experiments.figures import Options, promote, show_figures

    if options.promote:
        if options.path or options.open or options.output or options.markdown:
            raise Problem("--promote cannot be combined with other arguments", "Remove them.")
        return promote(*options.promote)
    if options.open and options.markdown:
        raise Problem("--open and --markdown cannot be combined", "Remove one of them.")
    return show_figures(options.path, Options(options.output, options.open, options.markdown))


@command(
    "adopt",
    "add the template to existing experiments without overwriting anything",
    argument("paths", nargs="+", metavar="FOLDER", help="folder in experiments/ that was made without the template"),
    argument("--source", metavar="TEMPLATE", help="template to add; default: that of the other experiments"),
    argument("--dry-run", action="store_true", help="print what would be added, and add nothing"),
    examples=(
        "experiments adopt experiments/005-old --dry-run",
        "experiments adopt experiments/005-old --source gh:lab/tc-exp-template",
    ),
)
def handle_adopt(options: argparse.Namespace) -> int:
    from experiments.adopt import adopt

    return adopt(options.paths, options.source, options.dry_run)


@command(
    "completion",
    "print the code for Tab completion in a shell",
    argument("shell", choices=("bash", "zsh"), metavar="SHELL", help="bash or zsh"),
    examples=('eval "$(experiments completion bash)"',),
)
def handle_completion(options: argparse.Namespace) -> int:
    from experiments.completion import print_code

    return print_code(options.shell)


class ShowVersion(argparse.Action):
    """Print the version of the installed package. Finding it takes longer than parsing the arguments."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"experiments {version('tc-exp-template')}")
        except PackageNotFoundError:
            parser.exit(1, "experiments: this is a checkout, which has no version. Run `git describe` there.\n")
        parser.exit()


def make_parser(completers: Mapping[str, Any] = MappingProxyType({})) -> argparse.ArgumentParser:
    """Return the parser. `completers` are functions by the names of arguments, for the completion of a shell."""
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("experiments", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--version", action=ShowVersion, nargs=0, help="print the version")
    added = parser.add_subparsers(required=True, metavar="COMMAND")
    for entry in COMMANDS:
        subparser = added.add_parser(
            entry.name,
            help=entry.summary,
            description=f"{entry.summary[0].upper()}{entry.summary[1:]}.",
            epilog="\n  ".join(("examples:", *entry.examples)),
            formatter_class=plain,
        )
        for declared in entry.arguments:
            action = subparser.add_argument(*declared.names, **declared.settings)
            if completer := completers.get(action.dest):
                action.completer = completer  # type: ignore[attr-defined]  # argcomplete reads it
        subparser.set_defaults(handler=entry.handler)
    return parser


def exit_at_signal(number: int, frame: object) -> NoReturn:
    """Exit as at Ctrl-C: roll back unfinished work and remove temporary files."""
    sys.exit(128 + number)


def main(words: Sequence[str] | None = None) -> NoReturn:
    """Run a command, by default that of sys.argv. A problem is printed in one line, with exit code 1."""
    if "_ARGCOMPLETE" in os.environ:
        from experiments.completion import COMPLETERS, complete_line

        complete_line(make_parser(COMPLETERS))
    options = make_parser().parse_args(words)
    gc.set_threshold(100_000)  # thousands of records have no cycles, and each search for them takes longer
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            signal.signal(number, exit_at_signal)
    try:
        forget_hook_variables()
        code = options.handler(options)
        sys.stdout.flush()
        sys.exit(code)
    except BrokenPipeError:  # `experiments list | head` closed the pipe: drop the rest of the output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except (Problem, OSError) as error:
        sys.exit(f"experiments: {reason(error)}")
    except KeyboardInterrupt:
        sys.exit(130)
