"""Choose and claim the point of a job before its script starts, and run scripts that do not record themselves.

By hand, for a script that does not record itself:

point.py NAME -- python SCRIPT --config-name CONFIG ...    run one point of a campaign

Launchers start these forms, the first two through point.sh:

point.py --claim CONFIG FILE JOB...             write the words for the script to FILE, each ending in NUL
point.py --holders CONFIG FILE                  write the jobs that hold points of a pack, to ask Slurm about them
point.py --exec CONFIG JOB... -- SCRIPT...      choose the point of this process of a pack, and become its script
point.py --hydra CONFIG -- SCRIPT WORD...       run a Hydra script, and record the run
point.py --plain NAME -- SCRIPT ARGUMENT...     run another script, and record the run in runs/NAME

Slurm no longer has the jobs JOB. The exit code of --claim is FINISHED or TAKEN if there is nothing to compute; the
reason is printed. It is ASK if only Slurm knows whether a job still computes the point. Then FILE has that job's
cluster, its number and the point.
"""

import os
import os.path as osp
import sys
import types
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from runtime.campaign import ChosenPoint

FINISHED, TAKEN, ASK = 3, 4, 5
RUNTIME = osp.dirname(osp.realpath(__file__))


def main() -> None:
    skip_package()
    from runtime.grid import GridError
    from runtime.point_claims import ClaimError, Finished, Taken

    try:
        if sys.argv[1:] and sys.argv[1] in PROGRAMS:
            PROGRAMS[sys.argv[1]](sys.argv[2:])
        elif len(sys.argv) > 3 and sys.argv[2] == "--":
            run_by_hand(sys.argv[1], sys.argv[3:])
        else:
            sys.exit("point.py: write a point and a command, such as: wide_0 -- python SCRIPT --config-name CONFIG")
    except Finished as finished:
        sys.exit(f"this point is finished. Move {finished.record.get('folder')} away to compute it again.")
    except (GridError, ClaimError, Taken, OSError) as error:
        sys.exit(" ".join(str(error).split()))


def skip_package() -> None:
    """Import modules of `runtime` without its __init__, which takes longer than everything that this program does."""
    package = types.ModuleType("runtime")
    package.__path__ = [RUNTIME]
    sys.modules["runtime"] = package


def choose(words: Sequence[str]) -> None:
    """Write the words of this job's point to a file."""
    from runtime.point_claims import Unknown

    config, file, *gone = words
    try:
        chosen = claimed_words(config, gone)
    except Unknown as question:
        write_words(file, question.words)
        sys.exit(ASK)
    write_words(file, chosen)


def become(words: Sequence[str]) -> NoReturn:
    """Replace this process of a pack by its script. End without error if there is nothing to compute."""
    from runtime.point_claims import Unknown

    (config, *gone), script = split(words)
    try:
        chosen = claimed_words(config, gone, is_pack=True)
    except Unknown as question:
        end(0, f"point {question.words[2]}: job {question.words[1]} computes it")
    except SystemExit as outcome:
        sys.exit(0 if outcome.code in (FINISHED, TAKEN) else outcome.code)
    if lacks_recorder():
        run_hydra([config, "--", *script, *chosen])
    os.execv(sys.executable, [*interpreter(), *script, *chosen])


def write_holders(words: Sequence[str]) -> None:
    """Write the cluster, job and point of each holder of a pack's points that only Slurm knows about."""
    from runtime.point_claims import (
        ClaimError,
        Taken,
        Unknown,
        claim_path,
        newest_claim,
        refuse_live,
        this_owner,
    )

    config, file = words
    size = int(os.environ["SLURM_NTASKS"])
    first = int(os.environ.get("SLURM_ARRAY_TASK_ID", 0)) * size
    questions: list[str] = []
    for name, _ in points(config)[first : first + size]:
        folder = run_folder(config, name)
        number, holder = newest_claim(folder)
        if holder and holder.job:
            try:
                refuse_live(holder, this_owner(), (), claim_path(folder, number))
            except Unknown as question:
                questions += question.words
            except (Taken, ClaimError):  # the process of this point reports it
                continue
    write_words(file, questions)


def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words before and after the first `--`."""
    place = words.index("--")
    return list(words[:place]), list(words[place + 1 :])


def interpreter() -> list[str]:
    """Return the command line of Python in this process, without the script."""
    return [sys.executable, *sys.orig_argv[1 : -len(sys.argv)]]


# Scripts that do not record themselves --------------------------------------------------------------------------------


def lacks_recorder() -> bool:
    """Return whether the preflight has found that the script of this job does not record itself."""
    from runtime.paths import receipt_file

    return osp.exists(receipt_file("unrecorded"))


def run_plain(words: Sequence[str]) -> NoReturn:
    """Run a script with its own arguments, and record the run."""
    [name], script = split(words)
    run_script(name, interpreter(), script, script[1:], None)


def run_hydra(words: Sequence[str]) -> NoReturn:
    """Run a Hydra script without conf/runtime.yaml, and record the run. A word point=NAME chooses its point."""
    [config], script = split(words)
    run_configuration(config, interpreter(), script)


def run_by_hand(name: str, command: Sequence[str]) -> NoReturn:
    """Run one point by a typed command."""
    from runtime.campaign import typed_config
    from runtime.grid import GridError

    first = next((number for number, word in enumerate(command) if word.endswith(".py")), None)
    config = typed_config(command)
    if first is None or not config:
        raise GridError(f"point {name}: write the command with --config-name CONFIG, such as: python SCRIPT.py")
    run_configuration(config, command[:first], [*command[first:], f"point={name}"])


def run_configuration(config: str, python: Sequence[str], words: Sequence[str]) -> NoReturn:
    from runtime.campaign import CHOSEN, expand, is_override

    script, chosen = expand(list(words), has_runtime=False)
    if chosen:
        CHOSEN.append(chosen)
    overrides = [word for word in script[1:] if is_override(word)]
    run_script(chosen.campaign if chosen else config, python, script, overrides, chosen)


def run_script(
    name: str, python: Sequence[str], words: Sequence[str], overrides: Sequence[str], chosen: "ChosenPoint | None"
) -> NoReturn:
    """Run a script, and record the run in a folder of runs/NAME. `words` are the script and its arguments."""
    from runtime.campaign import typed_config, with_overrides
    from runtime.grid import override_text
    from runtime.parent import ScriptRun, claim_folder, run_recorded

    environment = dict(os.environ)  # the script reads .env itself
    folder = claim_folder(runs_folder(), name, chosen, words[0])
    if typed_config(words):
        words = with_overrides(words, [f"hydra.run.dir={override_text(folder)}"])
    hashes = dict(points(chosen.config)) if chosen else {}
    expected = hashes.get(chosen.point.name) if chosen else None
    command = [*python, *words]
    run_recorded(ScriptRun(name, folder, words[0], command, overrides, chosen, expected, environment))


PROGRAMS: dict[str, Callable[[Sequence[str]], None]] = {
    "--claim": choose,
    "--exec": become,
    "--holders": write_holders,
    "--hydra": run_hydra,
    "--plain": run_plain,
}


# Points ---------------------------------------------------------------------------------------------------------------


def claimed_words(config: str, gone: Collection[str], is_pack: bool = False) -> list[str]:
    """Claim the point of this process, and return the words that choose it; none if the configuration has no grid.

    Exits if there is nothing to compute. Raises Unknown if only Slurm knows that.
    """
    from runtime.campaign import campaign_of
    from runtime.point_claims import ClaimError, Finished, Taken, claim_point, this_owner
    from runtime.process import this_process

    known = points(config)
    if not known:
        return []
    number = this_process().task
    if number is None:
        raise ClaimError(f"{config} has a grid of {len(known)} points. Submit it with --array=0-{len(known) - 1}.")
    if number >= len(known):
        if is_pack:
            end(FINISHED, f"process {number}: {config} has {len(known)} points, and this process has none")
        raise ClaimError(f"{config} has {len(known)} points. Submit it with --array=0-{len(known) - 1}.")
    name, expected = known[number]
    subject = f"point {name} of {campaign_of(config)}"
    try:
        claim_point(run_folder(config, name), this_owner(), gone)
    except Finished as finished:
        if problem := finished.difference(expected):
            raise ClaimError(f"{subject}: {problem}") from None
        end(FINISHED, f"{subject} is finished")
    except Taken as taken:
        end(TAKEN, f"{subject}: {taken}")
    return [f"point={name}"]


def points(config: str) -> list[tuple[str, str | None]]:
    """Return the name and the hash of each point, from the receipt or else from the configuration without hashes."""
    from runtime.paths import receipt_file

    path = receipt_file("points")
    if osp.isfile(path):
        with open(path, encoding="utf-8") as file:
            words = file.read().split("\0")[:-1]
        return list(zip(words[::2], words[1::2], strict=True))
    from runtime.campaign import read_grid

    grid = read_grid(config)
    return [(point.name, None) for point in grid.points] if grid else []


def point_of_task(words: Sequence[str]) -> list[str]:
    """Return the word that chooses the point of this task, or the first point of a pack's; none without a grid."""
    from runtime.campaign import typed_config

    config, task = typed_config(words), os.environ.get("SLURM_ARRAY_TASK_ID")
    known = points(config) if config and task else []
    if not known or not task:
        return []
    size = int(os.environ["SLURM_NTASKS"]) if os.environ["EXPERIMENT_MODE"] == "pack" else 1
    number = int(task) * size
    return [f"point={known[number][0]}"] if number < len(known) else []


def run_folder(config: str, name: str) -> str:
    """Return the folder of a point's run, as conf/runtime.yaml gives it."""
    from runtime.campaign import campaign_of

    return osp.join(runs_folder(), campaign_of(config), name)


def runs_folder() -> str:
    """Return the folder of all runs of this experiment."""
    from runtime.paths import EXPERIMENT

    return osp.join(data_root(), "experiments", EXPERIMENT, "runs")


def data_root() -> str:
    from runtime.environment import find_env, require

    if "DATA_ROOT" not in os.environ:
        from dotenv import load_dotenv

        load_dotenv(find_env())
    [folder] = require("DATA_ROOT")
    return folder


def end(code: int, line: str) -> NoReturn:
    print(line, flush=True)
    sys.exit(code)


def write_words(file: str, words: Sequence[str]) -> None:
    with open(file, "wb") as target:
        target.write(b"".join(os.fsencode(word) + b"\0" for word in words))


if __name__ == "__main__":
    main()
