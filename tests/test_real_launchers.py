"""Launchers that a lab really submitted: each is expressible as a run with options, without edits."""

import re
from pathlib import Path

import pytest
import yaml
from support.template import MACHINES, render

FACTS = yaml.safe_load(Path(__file__).with_name("real-launchers.yml").read_text())

# How a fact starts Python: the mode, the ID and the end of the launcher.
TORCHRUN = '-m torch.distributed.run --standalone --nproc_per_node="$SLURM_GPUS_ON_NODE" "${run[@]}" "$@"'
AGENT = '-m wandb agent --count 1 "$SWEEP_ID"'
WAYS = {
    "python": ("", "000", 'exec "${python[@]}" "${run[@]}" "$@"'),
    "torchrun, one process a GPU": ("-ddp", "000", f'exec "${{python[@]}}" {TORCHRUN}'),
    "srun, one process a task": ("-srun", "000", '--kill-on-bad-exit=1 "${python[@]}" "${run[@]}" "$@"'),
    "several independent runs in one job": ("-pack", "000", '"${python[@]}" "${run[@]}" "$@"'),
    "several Optuna workers in one job": ("-pack", "optuna", '"${python[@]}" "${run[@]}" "$@"'),
    "several W&B agents in one job": ("-pack", "wandb", f'"${{python[@]}}" {AGENT}'),
}
TASKS = 4  # for packs that started their processes by hand, without a number of tasks


def directives(launcher):
    """Return the options of a launcher: {name: value, or True for a flag}."""
    pairs = re.findall(r"^#SBATCH --([a-z-]+)(?:=(.*))?$", launcher.read_text(), flags=re.MULTILINE)
    return {name: value or True for name, value in pairs}


def as_text(options):
    return {name: value if value is True else str(value) for name, value in options.items()}


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: str(fact["id"]))
def test_real_launcher_is_expressible_as_a_run(template, tmp_path, fact):
    mode, number, end = WAYS[fact["runs by"]]
    machine = MACHINES[fact["machine"]]["sbatch"]
    request = dict(fact["asks for"])
    is_query = "runs a query as a job" in fact["also"]
    if "gres" not in request and request.keys() != {"signal"}:
        request["gres"] = None
    if mode == "-pack" and "ntasks" not in request:
        cpus = request.get("cpus-per-task", machine["cpus-per-task"])
        request |= {"ntasks": TASKS, "cpus-per-task": cpus // TASKS}
    token = f"{fact['machine']}{mode}_{'001' if is_query else number}"
    script = "query" if is_query else "x"
    experiment = render(template, tmp_path / "011-x", runs={script: [{token: request}]})

    [launcher] = (experiment / "scripts").glob("*.slurm")
    asked = directives(launcher)
    own = {name: asked.pop(name) for name in ("job-name", "output", "open-mode")}
    assert own["job-name"].startswith(f"011-{script}_")
    wanted = machine | request
    assert asked == as_text({name: value for name, value in wanted.items() if value is not None})
    if mode == "-pack" and "ntasks" not in fact["asks for"]:
        total = fact["asks for"].get("cpus-per-task", machine["cpus-per-task"])
        assert int(asked["ntasks"]) * int(asked["cpus-per-task"]) == total
    else:
        said = {name: asked.get(name) for name in fact["asks for"]}
        assert said == as_text(fact["asks for"])
        assert ("gres" in asked) == ("gres" in fact["asks for"])

    lines = launcher.read_text().splitlines()
    assert lines[-1].endswith(end)
    assert lines[-1].startswith("exec srun") == (mode in ("-srun", "-pack"))
    assert f"  {MACHINES[fact['machine']]['python']}" in lines
    if is_query:
        assert lines[lines.index("run=(") + 1 : lines.index("run=(") + 3] == [
            "  experiments/011-x/scripts/query.py",
            "  001",
        ]


def test_runs_give_the_tree_of_experiment_010(template, tmp_path):
    """The files follow the lab's naming conventions."""
    model = "equivariant_cell_graph_transformer"
    inference = [f"igb_cabbi_000_inference_r{replicate}" for replicate in range(3)]
    runs = {
        model: ["igb_cabbi-ddp_000", "igb_mmli-ddp_001", "igb_cabbi-ddp_002", "igb_mmli-ddp_003", *inference],
        f"{model}_inference_1": ["gh_000_E006_M01", "gh_001_E006_M02", "gh_002_E006_M03"],
        "select_12_and_24_genes_top_triples": ["gh_000"],
    }
    experiment = render(template, tmp_path / "010-kuzmin-tmi", runs=runs, queries=True)
    configurations = {path.name for path in (experiment / "conf").iterdir()}
    assert configurations >= {
        "default.yaml",
        *(f"{model}_cabbi_000_inference_r{replicate}.yaml" for replicate in range(3)),
        f"{model}_cabbi_000.yaml",
        f"{model}_cabbi_002.yaml",
        f"{model}_mmli_001.yaml",
        f"{model}_mmli_003.yaml",
    }
    scripts = {path.name for path in (experiment / "scripts").iterdir()}
    assert scripts >= {
        f"igb_cabbi_{model}-ddp_000.slurm",
        f"igb_cabbi_{model}-ddp_002.slurm",
        f"igb_mmli_{model}-ddp_001.slurm",
        f"igb_mmli_{model}-ddp_003.slurm",
        f"{model}.py",
        f"{model}_inference_1.py",
        "select_12_and_24_genes_top_triples.py",
        "__init__.py",
        "query.py",
    }
    assert (experiment / "queries/001_small_build.cql").is_file()
    assert (experiment / "slurm/output").is_dir()
    job = directives(experiment / f"scripts/igb_cabbi_{model}-ddp_000.slurm")["job-name"]
    assert job == f"010-{model}_cabbi_000"
