"""Merge: the table of decisions. Edits of a launcher survive changes of lab.yml."""

import re
import shutil

import copier
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.process import commit, git
from support.template import MACHINES, Template, render

from experiments.git import EXECUTABLE, LINK, REGULAR, merge_lines
from experiments.launcher import is_rendered
from experiments.merge import Decision, Refusal, decide, merge_file
from experiments.template import File

LAUNCHER = "scripts/igb_cabbi_x_000.slurm"

OPTIONS = {
    "partition": "mmli",
    "cpus-per-task": "32",
    "mem": "500g",
    "gres": "gpu:8",
    "time": "9-00:00:00",
}
PLACE = "# Add your own options below. If an option is given twice, sbatch uses the last one.\n"


class Edit:
    """A user's edit of a launcher: (pattern, replacement), and the part of lab.yml on the same line."""

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
    "a line before setup": Edit(r"^(set -\w+o pipefail\n)", "\\1umask 027\n"),
    "a line in setup": Edit(r"^(module load singularity\n)", "\\1module load mine\n", "setup"),
    "another setup": Edit(r"^module load singularity", "module load mine", "setup"),
    "a line after setup": Edit(r"^(set -u\n)", "\\1export OMP_NUM_THREADS=8\n"),
    "more variables": Edit(r"^(export EXPERIMENT_MODE=one\b.*\n)", "\\1export NCCL_DEBUG=INFO\n"),
    "another python": Edit(r"^  singularity exec", "  nice singularity exec", "python"),
    "another configuration": Edit(r"--config-name \w+", "--config-name mine"),
    "one more override": Edit(r"^(  --config-name \w+\n)", "\\1  hours=48\n"),
    "an override at the end": Edit(r'^(exec .*) "\$@"', r'\1 hours=48 "$@"'),
    "a line before the command": Edit(r"^(exec )", "nvidia-smi\n\\1"),
    "no exec": Edit(r"^exec (.*)", "\\1\ndate"),
}

# Changes of lab.yml, and the lines of a launcher that they conflict with. An option that is added or removed between
# two others conflicts with the one below it. At the end of a machine's options it conflicts with none.
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


def launcher(template, folder, **answers):
    """Return a launcher of a template without git."""
    return (render(template, folder / "011-x", runs={"x": ["igb_cabbi_000"]}, **answers) / LAUNCHER).read_text()


@pytest.fixture(scope="module")
def old(plain_template, tmp_path_factory):
    """Return the launcher before the release."""
    return launcher(plain_template, tmp_path_factory.mktemp("old"))


def changed_launcher(plain_template, folder, change):
    """Return the launcher of a release with another lab.yml, or with other answers."""
    template = Template(shutil.copytree(plain_template.path, folder / "template"), None)
    lab_yml = template.path / "lab.yml"
    text = lab_yml.read_text()
    start, end = text.index("  igb_cabbi:"), text.index("  igb_mmli:")
    machine = text[start:end]
    for pattern, replacement in CHANGES[change][0]:
        machine, count = re.subn(pattern, replacement, machine, count=1)
        assert count == 1, pattern
    lab_yml.write_text(text[:start] + machine + text[end:])
    return launcher(template, folder, **({"user_email": "ada@example.org"} if change == "another mail" else {}))


def by_copier(folder, merges):
    """Merge texts by Copier, all in one template. Each is (old, new, edited). Return None for a conflict."""
    source, lab = folder / "launchers", folder / "lab"
    for repository in (source, lab):
        git(folder, "init", "--quiet", repository)
    (source / "{{ _copier_conf.answers_file }}.jinja").write_text("{{ _copier_answers | to_nice_yaml }}")
    for place, version in enumerate(("v1.0.0", "v1.1.0")):
        for number, texts in enumerate(merges):
            (source / f"{number}.slurm").write_text(texts[place])
        commit(source)
        git(source, "tag", version)
    (lab / ".copier-answers.yml").write_text(f"_commit: v1.0.0\n_src_path: {source}\n")
    for number, (_, _, edited) in enumerate(merges):
        (lab / f"{number}.slurm").write_text(edited)
    commit(lab)
    copier.run_update(lab, defaults=True, overwrite=True, quiet=True)
    conflicts = git(lab, "diff", "--name-only", "--diff-filter=U").split()
    names = [f"{number}.slurm" for number in range(len(merges))]
    return [None if name in conflicts else (lab / name).read_text() for name in names]


def by_tool(folder, merges):
    merged = [merge_lines(edited.encode(), old.encode(), new.encode()) for old, new, edited in merges]
    return [None if text is None else text.decode() for text in merged]


def differences(one, two):
    """Return the lines of only the second text, and those of only the first."""
    one, two = one.splitlines(), two.splitlines()
    return {line for line in two if line not in one}, {line for line in one if line not in two}


def test_merge_keeps_the_edit_and_the_release_change(plain_template, tmp_path, old):
    """All pairs of an edit and a change are merged at once, since each update by Copier takes a second."""
    names, merges = [], []
    for change, (_, lines) in CHANGES.items():
        new = changed_launcher(plain_template, tmp_path / change, change)
        assert new != old
        for name, edit in EDITS.items():
            if edit.line not in lines:
                names.append((name, change))
                merges.append((old, new, edit(old)))
    for merge_all in (by_copier, by_tool):
        for (name, change), texts, merged in zip(names, merges, merge_all(tmp_path, merges), strict=True):
            check_merge(name, change, *texts, merged)


def check_merge(name, change, old, new, edited, merged):
    """Check that a merged text has the edit and the change."""
    assert merged is not None, f"{name} and {change} conflict"
    lines = set(merged.splitlines())
    added, removed = differences(old, new)
    own_added, own_removed = differences(old, edited)
    assert added <= lines, f"{change} is lost"
    assert own_added <= lines, f"{name} is lost"
    assert not own_removed & lines, f"{name} is undone"
    assert not (removed - own_added) & lines, f"{change} is undone"


def test_merge_of_the_same_line_conflicts(old, tmp_path):
    """This shows that the test above can fail."""
    new, mine = old.replace("--mem=400g", "--mem=1g"), old.replace("--mem=400g", "--mem=2g")
    assert by_copier(tmp_path, [(old, new, mine)]) == by_tool(tmp_path, [(old, new, mine)]) == [None]


def test_is_rendered_recognises_every_machines_launcher(plain_template, tmp_path):
    """Launchers without Slurm do not set EXPERIMENT_MODE."""
    tokens = [f"{name}_{number:03}" for number, name in enumerate(MACHINES) if not MACHINES[name].get("retired")]
    launchers = list(render(plain_template, tmp_path / "011-x", runs={"x": tokens}).glob("scripts/*.slurm"))
    assert len(launchers) == len(tokens) and all(is_rendered(path.read_bytes()) for path in launchers)
    assert not is_rendered(b"#!/bin/bash\npython train.py\n")


# The table ------------------------------------------------------------------------------------------------------------

A, B, C = (File(text) for text in (b"1\n2\n3\n", b"one\n2\n3\n", b"1\n2\nthree\n"))
BINARY, SYMLINK = File(b"\xff\n"), File(b"../target", LINK)


@pytest.mark.parametrize(
    ("mine", "old", "new", "decision"),
    [
        (B, A, A, Decision.KEEP),
        (SYMLINK, A, A, Decision.KEEP),
        (None, A, B, Decision.KEEP),
        (None, A, None, Decision.KEEP),
        (B, A, File(A.content, EXECUTABLE), Decision.KEEP),
        (None, None, A, Decision.TAKE),
        (A, A, B, Decision.TAKE),
        (A, A, None, Decision.TAKE),
        (B, A, B, Decision.TAKE),
        (A, None, A, Decision.TAKE),
        (BINARY, BINARY, A, Decision.TAKE),
        (B, A, C, Decision.MERGE),
        (SYMLINK, A, B, Decision.IS_LINK),
        (SYMLINK, A, None, Decision.IS_LINK),
        (A, None, B, Decision.EXISTS),
        (B, A, None, Decision.EDITED),
        (BINARY, A, B, Decision.NOT_TEXT),
        (File(b"\0"), A, B, Decision.NOT_TEXT),
    ],
)
def test_decide_covers_every_case(mine, old, new, decision):
    assert decide(mine, old, new) is decision


FILES = st.none() | st.builds(
    File, st.lists(st.sampled_from([b"1\n", b"2\n", b"3\n", b"\xff\n"]), max_size=4).map(b"".join), st.just(REGULAR)
)
COMMITTED = FILES | st.builds(File, st.just(b"2\n"), st.sampled_from([EXECUTABLE, LINK]))
RENDERED = FILES | st.builds(File, st.just(b"2\n"), st.just(EXECUTABLE))


def side_by_side(mine, old, new):
    """Return all three texts side by side, or None as a conflict."""
    return None if mine == b"2\n" else b"|".join([mine, old, new])


@given(mine=COMMITTED, old=RENDERED, new=RENDERED)
def test_merge_loses_no_content(mine, old, new):
    result = merge_file(mine, old, new, side_by_side)
    if old == new:
        assert result == mine, "the release changed nothing"
    elif mine == old:
        assert result == new, "an unedited file becomes the new one"
    elif isinstance(result, Refusal):
        assert mine is not None and result.reason
    elif mine is None:
        assert result == (new if old is None else None), "a deleted file stays deleted"
    elif result is None:
        assert new is None and mine.content == old.content, "an edited file is not deleted"
    else:
        sides, before = result.content.split(b"|"), old and old.content
        assert mine.content in sides or mine.content == before, "an edit is kept, alone or merged"
        assert new.content in sides or new.content == before, "a release's change arrives, alone or merged"
        assert result.mode == (mine.mode if old and old.mode == new.mode else new.mode)
