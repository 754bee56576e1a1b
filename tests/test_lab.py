"""lab.yml: errors are reported before the first question, and another lab edits no other file."""

import shutil
import subprocess
from copy import deepcopy

import copier
import pytest
import yaml
from support.lab import fake_programs
from support.process import run
from support.queue import Queue
from support.template import LAB, ROOT, Template, render
from support.terminal import Terminal

from experiments.launcher import Launcher

REAL = yaml.safe_load((ROOT / "lab.yml").read_text())


@pytest.fixture
def lab_of(plain_template, tmp_path):
    """Return a function that copies the template with another lab.yml, given as a mapping or as text."""

    def with_lab(lab):
        path = shutil.copytree(plain_template.path, tmp_path / "template", dirs_exist_ok=True)
        (path / "lab.yml").write_text(lab if isinstance(lab, str) else yaml.safe_dump(lab, sort_keys=False))
        return Template(path, None)

    return with_lab


def changed(*path, to):
    """Return the suite's lab with one value changed, or removed if it is None."""
    lab = deepcopy(LAB)
    place = lab
    for key in path[:-1]:
        place = place[key]
    if to is None:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return lab


WRONG = [
    ("[]\n", "lab.yml: must be one mapping"),
    ("a: 1\n---\nb: 2\n", "lab.yml: must be one mapping"),
    (changed("machine", to={}), 'lab.yml: unknown field "machine"; expected one of: repository, package, first_run'),
    (changed("first_run", to=None), "lab.yml: first_run is missing"),
    (changed("repository", to=5), "lab.yml: repository must be a string"),
    (changed("package", to=["x"]), "lab.yml: package must be a string"),
    (changed("queries", to="maybe"), "lab.yml: queries must be true or false"),
    (changed("first_run", to="mars_000"), 'lab.yml: first_run: run "mars_000" of first: unknown machine "mars"'),
    (changed("first_run", to="gone_000"), 'lab.yml: first_run: run "gone_000" of first: gone is retired'),
    (changed("machines", to=[]), "lab.yml: machines must be a mapping"),
    (changed("machines", to={}), "lab.yml: machines must be a mapping"),
    (changed("machines", "GH", to={"python": "python3"}), "machine GH: must be lower-case words joined by _"),
    (changed("machines", "a-b", to={"python": "python3"}), "machine a-b: must be lower-case words joined by _"),
    (changed("machines", "a_012_b", to={"python": "python3"}), "machine a_012_b: must be lower-case words"),
    (
        changed("machines", "gh_optuna", to={"python": "python3"}),
        "machine gh_optuna: must not end in _optuna",
    ),
    (changed("machines", 7, to={"python": "python3"}), "machine 7: must be lower-case words"),
    (changed("machines", "gh", to="python3"), "machine gh: must be a mapping with the field python"),
    (changed("machines", "gh", "qos", to="high"), 'machine gh: unknown field "qos"; expected one of: cluster,'),
    (changed("machines", "gh", "python", to=None), "machine gh: python is missing"),
    (changed("machines", "gh", "python", to=["python3"]), "machine gh: python must be a string"),
    (changed("machines", "gh", "python", to=" "), "machine gh: python is missing"),
    (changed("machines", "gh", "cluster", to=3), "machine gh: cluster must be a string"),
    (changed("machines", "gh", "setup", to="module load x"), "machine gh: setup must be a list of bash lines"),
    (changed("machines", "gh", "setup", to=[1]), "machine gh: setup must be a list of bash lines"),
    (changed("machines", "gh", "torchrun", to="--tee=3"), "machine gh: torchrun must be a list of torchrun options"),
    (changed("machines", "gh", "torchrun", to=["tee"]), 'machine gh: torchrun: "tee" must be one option in one word'),
    (changed("machines", "gh", "torchrun", to=["--tee 3"]), 'machine gh: torchrun: "--tee 3" must be one option'),
    (changed("machines", "gh", "torchrun", to=["--tee=$(id)"]), 'torchrun: "--tee=$(id)" must be one option'),
    (changed("machines", "gh", "torchrun", to=[3]), "machine gh: torchrun: 3 must be one option in one word"),
    (
        changed("machines", "gh", "torchrun", to=["--tee=3", "--nproc_per_node=2"]),
        "machine gh: torchrun: --nproc_per_node=2 is set by the template. Remove it",
    ),
    (changed("machines", "gh", "torchrun", to=["--nproc=2"]), "torchrun: --nproc=2 is set by the template"),
    (changed("machines", "desk", "torchrun", to=["--tee=3"]), "machine desk: torchrun has options, but slurm is false"),
    (changed("machines", "gh", "preflight", to="no way"), "machine gh: preflight must be true or false"),
    (
        changed("machines", "gh", "rules", to="be nice"),
        "machine gh: rules must be a list of strings, one per rule, without line breaks",
    ),
    (changed("machines", "gh", "rules", to=["a", 1]), "machine gh: rules must be a list of strings, one per rule"),
    (changed("machines", "gh", "rules", to=["a\nb"]), "machine gh: rules must be a list of strings, one per rule"),
    (changed("machines", "gh", "retired", to=1), "machine gh: retired must be true or false"),
    (changed("machines", "gh", "slurm", to="none"), "machine gh: slurm must be true or false"),
    (changed("machines", "gh", "slurm", to=False), "machine gh: sbatch has options, but slurm is false"),
    (changed("machines", "gh", "sbatch", to=["mem"]), "machine gh: sbatch must be a mapping of sbatch options"),
    (changed("machines", "gh", "sbatch", "cpus_per_task", to=4), "Write cpus-per-task"),
    (changed("machines", "gh", "sbatch", "output", to="x"), "machine gh: sbatch: output is set by the template"),
    (
        changed("machines", "gh", "sbatch", "time", to=43200),
        "machine gh: sbatch: time is 43200, because YAML reads",
    ),
    (
        changed("machines", "gh", "sbatch", "cpus-per-gpu", to=4),
        "machine gh: sbatch: cpus-per-task and cpus-per-gpu cannot be combined. Remove one of them",
    ),
    (changed("machines", "gh", "sbatch", "mem", to=1.5), "machine gh: sbatch: mem must be a string, an integer"),
    (changed("machines", "gh", "sbatch", "requeue", to=False), "machine gh: sbatch: requeue is false"),
    (changed("machines", "gh", "sbatch", "comment", to="a\nb"), "machine gh: sbatch: comment has a quote, a backslash"),
]


@pytest.mark.parametrize(("lab", "problem"), WRONG, ids=[problem for _, problem in WRONG])
def test_wrong_lab_is_refused_in_one_line(lab_of, tmp_path, lab, problem):
    destination = tmp_path / "011-x"
    with pytest.raises(copier.errors.UserMessageError) as refused:
        render(lab_of(lab), destination)
    assert problem in str(refused.value) and "\n" not in str(refused.value)
    assert not destination.exists()


def test_wrong_lab_stops_copier_before_the_prompts(lab_of, tmp_path):
    template = lab_of(changed("machines", "gh", "qos", to="high"))
    done = run("copier", "copy", template.path, tmp_path / "011-x", stdin=subprocess.DEVNULL)
    assert done.returncode == 1 and done.stdout == ""
    [line] = done.stderr.splitlines()
    assert 'lab.yml: machine gh: unknown field "qos"' in line


# Another lab ----------------------------------------------------------------------------------------------------------

OTHER = yaml.safe_load("""\
repository: https://example.org/other/lab
package: physics.tools
first_run: big_000
queries: false
machines:
  big:
    cluster: A cluster with conda
    sbatch:
      partition: long
      qos: high
      constraint: "scratch&v100"
      nodes: 2
      ntasks-per-node: 2
      mem-per-cpu: 2g
      gpus-per-node: "a100:2"
      exclude: spare3
      reservation: lab
      export: NONE
      exclusive: true
      time: 1-00:00:00
    setup:
      - source "$HOME/miniconda3/etc/profile.d/conda.sh"
      - conda activate lab
    python: python
  far_away:
    cluster: A cluster with Apptainer
    sbatch: {account: p-123, cpus-per-task: 2, mem-per-cpu: 1g, gpus-per-node: "a100:2", time: 0-04:00:00}
    setup: [module purge, "module load apptainer/1.3"]
    python: apptainer exec --nv --bind "$HOME:/home,/scratch" "$HOME/lab.sif" python3
    preflight: false
  desk:
    python: '"$HOME/env/bin/python"'
    slurm: false
  old_one:
    sbatch: {mem: 1g}
    python: python3
    retired: true
""")
EVERYTHING = {
    "x": [
        "big_000",
        "big-srun_001",
        {"big-ddp_002": {"nodes": 1}},
        {"far_away-pack_003": {"ntasks": 4, "mem": "8g"}},
        "desk_004",
        "big_optuna",
        "desk_optuna",
        "far_away_wandb",
    ],
    "query": ["far_away_005"],
}


def test_another_lab_edits_only_lab_yml(lab_of, tmp_path):
    (tmp_path / "lab/src/physics/tools").mkdir(parents=True)
    (tmp_path / "lab/src/physics/tools/timestamp.py").touch()
    template = lab_of(OTHER)
    first = render(template, tmp_path / "lab/experiments/011-x")
    answers = yaml.safe_load((first / ".copier-answers.yml").read_text())
    assert answers["runs"] == {"x": ["big_000"]} and answers["repository"] == "https://example.org/other/lab"
    assert answers["package"] == "physics.tools" and answers["queries"] is False
    assert "from physics.tools.timestamp import timestamp" in (first / "scripts/x.py").read_text()

    experiment = render(template, tmp_path / "012-y", runs=EVERYTHING, queries=True)
    launchers = sorted((experiment / "scripts").glob("*.slurm"))
    assert len(launchers) == 9
    for launcher in launchers:
        assert run("bash", "-n", launcher).returncode == 0, launcher.name
        linted = run("shellcheck", "--shell=bash", "--severity=warning", "--exclude=SC1091", launcher)
        assert linted.returncode == 0, linted.stdout
    big = (experiment / "scripts/big_x_000.slurm").read_text()
    asked = [line for line in big.splitlines() if line.startswith("#SBATCH")][3:]
    assert asked == [
        "#SBATCH --partition=long",
        "#SBATCH --qos=high",
        "#SBATCH --constraint=scratch&v100",
        "#SBATCH --nodes=2",
        "#SBATCH --ntasks-per-node=2",
        "#SBATCH --mem-per-cpu=2g",
        "#SBATCH --gpus-per-node=a100:2",
        "#SBATCH --exclude=spare3",
        "#SBATCH --reservation=lab",
        "#SBATCH --export=NONE",
        "#SBATCH --exclusive",
        "#SBATCH --time=1-00:00:00",
    ]
    pack = (experiment / "scripts/far_away_x-pack_003.slurm").read_text()
    assert "--mem=8g" in pack and "mem-per-cpu" not in pack, "two requests for memory are fatal to Slurm"
    assert "#SBATCH" not in (experiment / "scripts/desk_x_004.slurm").read_text()


def test_machine_without_slurm_writes_a_log(lab):
    answers = ["--defaults", f"--vcs-ref={lab.template.version}", "--data", "runs={x: [desk_000]}"]
    copied = run("copier", "copy", *answers, lab.template.path, lab.path / "experiments/011-x")
    experiment = lab.path / "experiments/011-x"
    for text in (copied.stderr, (experiment / "README.md").read_text()):
        assert (
            "bash experiments/011-x/scripts/desk_x_000.slurm\n" in text
            and "bash experiments/011-x/scripts/submit" not in text
        )
    environment = fake_programs(lab.path / "home")
    variables = [f"{name}={value}" for name, value in environment.items()]
    done = run("bash", experiment / "scripts/desk_x_000.slurm", cwd="/", env=environment)
    assert done.returncode == 0, done.stderr
    [log] = (experiment / "slurm/output").glob("011-x_desk_000_*.out")
    assert done.stdout == f"log: {log.relative_to(lab.path)}\n"
    assert "figure: " in log.read_text()
    terminal = Terminal("env", *variables, "bash", experiment / "scripts/desk_x_000.slurm", cwd="/")
    assert terminal.end() == 0
    [second] = set((experiment / "slurm/output").glob("011-x_desk_000_*.out")) - {log}
    assert "figure: " in terminal.text() and "figure: " in second.read_text()


def test_retired_machine_keeps_recorded_runs(own_template, lab):
    lab.template = own_template
    experiment = lab.render(runs={"x": [{"gh-ddp_000": {"gres": "gpu:4"}}, "slurm_001"]})
    python = "    python: python3\n\n  desk:"
    own_template.release(
        "v1.1.0",
        [
            ("lab.yml", python, "    python: python3\n    retired: true\n\n  desk:"),
            ("lab.yml", "0-04:00:00", "0-05:00:00"),
            ("lab.yml", "    cluster: GilaHyper\n", "    cluster: GilaHyper\n    torchrun: [--local-addr=127.0.0.1]\n"),
        ],
    )
    done = run("copier", "update", "--defaults", experiment.relative_to(lab.path), cwd=lab.path)
    assert done.returncode == 0, done.stderr
    assert "--time=0-05:00:00" in (experiment / "scripts/slurm_x_001.slurm").read_text()
    ddp = experiment / "scripts/gh_x-ddp_000.slurm"
    command = '--nproc_per_node="$SLURM_GPUS_ON_NODE" --local-addr=127.0.0.1 "${run[@]}" "$@"\n'
    assert ddp.read_text().endswith(command)
    [start] = Launcher.read(ddp).starts
    assert (start.mode, start.configs) == ("ddp", ("x_gh_000",)), "adopt recognizes it"
    refused = run(
        "copier", "copy", "--defaults", "-d", "runs={x: [slurm_000]}", own_template.path, "012-y", cwd=lab.path
    )
    assert "slurm is retired and cannot have new runs" in refused.stderr.splitlines()[-1]


# The lab's own lab.yml ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def queue_of(tmp_path_factory, needs_slurm):
    """Return a function that starts a Slurm with a lab's machines."""
    queues = []

    def start(machines):
        queues.append(Queue(tmp_path_factory.mktemp("queue"), machines))
        return queues[-1]

    yield start
    for queue in queues:
        queue.stop()


def reach_the_queue(queue, launchers, folder):
    """Submit launchers, and return the message for each that Slurm refuses."""
    refused = {}
    for launcher in launchers:
        if "#SBATCH" in launcher.read_text():
            done = queue("sbatch", "--parsable", launcher, cwd=folder)
            if done.returncode != 0:
                refused[launcher.name] = done.stderr
    return refused


def test_slurm_accepts_each_machine_of_lab_yml(lab_of, queue_of, tmp_path):
    """This holds for any lab: its launchers are valid bash, and Slurm accepts them."""
    machines = {name: machine for name, machine in REAL["machines"].items() if not machine.get("retired")}
    runs = {"x": [f"{name}_{number:03}" for number, name in enumerate(machines)]}
    experiment = render(lab_of((ROOT / "lab.yml").read_text()), tmp_path / "011-x", runs=runs)
    launchers = sorted((experiment / "scripts").glob("*.slurm"))
    assert len(launchers) == len(machines)
    assert {launcher.name: run("bash", "-n", launcher).stderr for launcher in launchers} == {
        launcher.name: "" for launcher in launchers
    }
    assert reach_the_queue(queue_of(machines), launchers, tmp_path) == {}


def test_slurm_accepts_options_of_another_lab(lab_of, queue_of, tmp_path):
    experiment = render(lab_of(OTHER), tmp_path / "011-x", runs=EVERYTHING, queries=True)
    queue = queue_of(OTHER["machines"])
    assert reach_the_queue(queue, sorted((experiment / "scripts").glob("*.slurm")), tmp_path) == {}
    job = dict(word.split("=", 1) for word in queue("scontrol", "-o", "show", "job", "1").stdout.split() if "=" in word)
    assert job["JobName"].startswith("011-x_big_") and job["Features"] == "scratch&v100"


VALUES = [
    "a b",
    "a # b",
    "a#b",
    "$(touch CANARY)",
    "`touch CANARY`",
    "a;b",
    "a|b&c",
    "100%",
    "é酵",
    "~/x",
    "!x",
    "{1..3}",
    "*",
]


def test_slurm_reads_values_verbatim(lab_of, queue_of, tmp_path):
    runs = {"x": [{f"slurm_{number:03}": {"comment": value}} for number, value in enumerate(VALUES)]}
    experiment = render(lab_of(LAB), tmp_path / "011-x", runs=runs)
    queue = queue_of(LAB["machines"])
    for launcher, value in zip(sorted((experiment / "scripts").glob("*.slurm")), VALUES, strict=True):
        number = queue("sbatch", "--parsable", launcher, cwd=tmp_path).stdout.strip()
        assert f" Comment={value} " in queue("scontrol", "-o", "show", "job", number).stdout
    assert not list(tmp_path.rglob("CANARY"))
