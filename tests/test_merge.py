"""Merge: a person's edit of a launcher and a release's change of lab.yml both arrive, but on the same line."""

import re

import pytest
from support.process import git, run

OPTIONS = {
    "partition": "mmli",
    "cpus-per-task": "32",
    "mem": "500g",
    "gres": "gpu:8",
    "time": "9-00:00:00",
}
PLACE = "# Options of your own stand below: the last of a name wins.\n"


class Edit:
    """What a person does to a launcher: (pattern, replacement), and what of lab.yml stands on the same line."""

    def __init__(self, pattern, replacement, line=None):
        self.pattern, self.replacement, self.line = pattern, replacement, line

    def __call__(self, text):
        edited, count = re.subn(self.pattern, lambda match: match.expand(self.replacement), text, flags=re.MULTILINE)
        assert count == 1, self.pattern
        return edited


EDITS = {
    **{f"another {name}": Edit(rf"^(#SBATCH --{name}=).*", r"\g<1>mine", name) for name in OPTIONS},
    **{f"no {name}": Edit(rf"^#SBATCH --{name}=.*\n", "", name) for name in OPTIONS},
    "another job's name": Edit(r"^(#SBATCH --job-name=).*", r"\1mine"),
    "another log": Edit(r"^(#SBATCH --output=).*", r"\1mine"),
    "no append": Edit(r"^#SBATCH --open-mode=append\n", ""),
    "one more option": Edit(re.escape(PLACE), PLACE + "#SBATCH --nice=7\n"),
    "three more options": Edit(re.escape(PLACE), PLACE + "#SBATCH --nice=7\n#SBATCH --mem=9g\n#SBATCH --hold\n"),
    "another header": Edit(r"^# \[\[.*", "# mine"),
    "a line before setup": Edit(r"^(set -eo pipefail\n)", "\\1umask 027\n"),
    "a line in setup": Edit(r"^(module load singularity\n)", "\\1module load mine\n", "setup"),
    "another setup": Edit(r"^module load singularity", "module load mine", "setup"),
    "a line after setup": Edit(r"^(set -u\n)", "\\1export OMP_NUM_THREADS=8\n"),
    "more variables": Edit(r"^(export EXPERIMENT_MODE=one\n)", "\\1export NCCL_DEBUG=INFO\n"),
    "another python": Edit(r"^  singularity exec", "  nice singularity exec", "python"),
    "another configuration": Edit(r"--config-name \w+", "--config-name mine"),
    "one more override": Edit(r"^(  --config-name \w+\n)", "\\1  hours=48\n"),
    "an override at the end": Edit(r'^(exec .*) "\$@"', r'\1 hours=48 "$@"'),
    "a line before the command": Edit(r"^(exec )", "nvidia-smi\n\\1"),
    "no exec": Edit(r"^exec (.*)", "\\1\ndate"),
}

# What a release changes in lab.yml, and the lines of a launcher that it is, or stands against: an option that is put
# between two others, or taken out there, meets the one below it. At the end of a machine's options it meets none.
NAMES = list(OPTIONS)
CHANGES = {
    **{f"another {name}": ([(rf"{name}: [^,}}]+", f'{name}: "{value}"')], [name]) for name, value in OPTIONS.items()},
    **{f"no {name}": ([(rf"(, )?{name}: [^,}}]+", "")], NAMES[NAMES.index(name) :][:2]) for name in NAMES[1:]},
    "a first option": ([("sbatch: {", "sbatch: {account: new, ")], ["partition"]),
    "a middle option": ([("mem: 400g", "mem: 400g, qos: new")], ["gres"]),
    "a last option": ([("00:00}", "00:00, constraint: new}")], []),
    "another time and one more": ([("5-00:00:00}", "6-00:00:00, account: new}")], ["time"]),
    "another setup": ([("module load singularity", "module load apptainer")], ["setup"]),
    "more setup": ([("load singularity", "load singularity, umask 002")], ["setup"]),
    "another python": ([("singularity exec --nv", "apptainer exec --nv")], ["python"]),
    "another mail": ([], []),
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_edit_and_a_change_both_arrive(own_template, lab, change):
    """One launcher for each edit, so that one update tries them all."""
    lab.template = own_template
    experiment = lab.render(runs={"x": [f"igb_cabbi_{number:03}" for number in range(len(EDITS) + 1)]})
    untouched, *launchers = sorted((experiment / "scripts").glob("*.slurm"))
    for launcher, edit in zip(launchers, EDITS.values(), strict=True):
        launcher.write_text(edit(launcher.read_text()))
    before = [launcher.read_text() for launcher in launchers]
    git(lab.path, "commit", "--quiet", "--all", "--message", "Edits")

    old = untouched.read_text()
    replacements, lines = CHANGES[change]
    lab_yml = own_template.path / "lab.yml"
    text = lab_yml.read_text()
    start, end = text.index("  igb_cabbi:"), text.index("  igb_mmli:")
    machine = text[start:end]
    for pattern, replacement in replacements:
        machine, count = re.subn(pattern, replacement, machine, count=1)
        assert count == 1, pattern
    lab_yml.write_text(text[:start] + machine + text[end:])
    own_template.release("v1.1.0")
    answer = ["--data", "user_email=ada@example.org"] if change == "another mail" else []
    done = run("copier", "update", "--defaults", *answer, "experiments/011-x", cwd=lab.path)
    assert done.returncode == 0, done.stderr
    new = untouched.read_text()
    assert new != old

    def differences(one, two):
        one, two = one.splitlines(), two.splitlines()
        return [each for each in two if each not in one], [each for each in one if each not in two]

    added, removed = differences(old, new)
    conflicts = git(lab.path, "diff", "--name-only", "--diff-filter=U").split()
    for launcher, (name, edit), mine in zip(launchers, EDITS.items(), before, strict=True):
        if edit.line in lines:
            continue
        assert not [path for path in conflicts if path.endswith(launcher.name)], f"{name} and {change} conflict"
        merged = launcher.read_text()
        for each in added:
            assert each.replace(untouched.stem[-3:], launcher.stem[-3:]) in merged.splitlines(), f"{change} is lost"
        own_added, own_removed = differences(old.replace("_000", launcher.stem[-4:]), mine)
        assert set(own_added) <= set(merged.splitlines()), f"{name} is lost"
        assert not set(own_removed) & set(merged.splitlines()), f"{name} is undone"
        assert not (set(removed) - set(own_added)) & set(merged.splitlines()), f"{change} is undone"
