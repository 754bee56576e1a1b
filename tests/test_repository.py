"""Submit from a repository in use: ignore rules, tracked results and launchers of its users."""

import errno
import os
import re
import shutil
import struct

import pytest
from support.process import commit, git
from support.slurm import Submitter, submitted


@pytest.fixture
def jobs(lab, slurm):
    return Submitter(lab, slurm)


def ignore(lab, *lines):
    """Add rules to the repository's .gitignore, and commit."""
    with (lab.path / ".gitignore").open("a") as file:
        file.write("".join(f"{line}\n" for line in lines))
    commit(lab.path)


def receipts(jobs):
    """Return the files of each receipt by name, oldest receipt first."""
    folders = sorted((jobs.experiment / "slurm/submitted").iterdir())
    return [{path.name: path.read_text() for path in folder.iterdir()} for folder in folders]


# Ignore rules ---------------------------------------------------------------------------------------------------------

FOLDERS = ["experiments/*/slurm/", "/experiments/011-x/slurm", "slurm", "slurm/", "results/", "outputs/"]
FILES = ["*.out", "*.csv"]


@pytest.mark.parametrize("rules", [FOLDERS, FILES], ids=["folders", "files"])
def test_ignore_rules_do_not_stop_a_submission(jobs, slurm, rules):
    jobs.lab.write_light("run.table([{'a': 1}])", script="x")
    ignore(jobs.lab, *rules)
    [number] = submitted(jobs.submit("gh_x_000"))
    assert slurm.wait(number)["JobState"] == "COMPLETED"
    assert jobs.receipt(number)["commit"] == git(jobs.lab.path, "rev-parse", "HEAD").strip()
    jobs.edit("conf/x_gh_000.yaml", "hours: 24", "hours: 30")
    [number] = submitted(jobs.submit("gh_x_000", "--", "--hold"))
    pinned = jobs.receipt(number)["commit"]
    changed = git(jobs.lab.path, "diff", "--name-only", "HEAD", pinned)
    assert changed == "experiments/011-x/conf/x_gh_000.yaml\n"
    slurm("scancel", number)


def test_global_ignore_rule_does_not_stop_a_submission(jobs, slurm, tmp_path):
    (tmp_path / "ignored").write_text("slurm/\nresults/\n*.jsonl\n")
    git(jobs.lab.path, "config", "core.excludesFile", tmp_path / "ignored")
    [number] = submitted(jobs.submit("gh_x_000", "--", "--hold"))
    slurm("scancel", number)


@pytest.mark.parametrize("rule", ["experiments/", "/experiments/011-x/", "011-*"])
def test_ignored_experiment_must_be_added_by_force(lab, slurm, rule):
    ignore(lab, rule)
    jobs = Submitter(lab, slurm)  # its commit leaves the experiment out
    line = jobs.refused("gh_x_000")
    assert re.search(rf"git ignores .*/experiments/011-x/scripts by \.gitignore:\d+:{re.escape(rule)}, so", line), line
    slurm("scancel", *submitted(jobs.submit("--live", "gh_x_000", "--", "--hold")))
    git(lab.path, "add", "--force", "experiments/011-x")
    git(lab.path, "commit", "--quiet", "--message=By force")
    slurm("scancel", *submitted(jobs.submit("gh_x_000", "--", "--hold")))
    shutil.copy(jobs.experiment / "conf/x_gh_000.yaml", jobs.experiment / "conf/x_gh_007.yaml")
    jobs.edit("scripts/gh_x_000.slurm", "x_gh_000\n", "x_gh_007\n")
    assert "git ignores its configuration experiments/011-x/conf/x_gh_007.yaml" in jobs.refused("gh_x_000")


def test_ignored_package_is_refused(lab, slurm):
    ignore(lab, "torchcell/")
    git(lab.path, "rm", "--quiet", "-r", "--cached", "torchcell")
    jobs = Submitter(lab, slurm, package="torchcell")
    assert re.search(r"git ignores .*/lab/torchcell by \.gitignore:\d+:torchcell/, so it", jobs.refused("gh_x_000"))


def test_log_folder_is_in_a_fresh_clone(lab, slurm, tmp_path):
    ignore(lab, "experiments/*/slurm/", "slurm/output", "*.out")
    jobs = Submitter(lab, slurm)
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", lab.path, clone)
    assert (clone / "experiments/011-x/slurm/output").is_dir()
    (clone / ".env").write_text((lab.path / ".env").read_text().replace(f"{lab.path}/exp", f"{clone}/exp"))
    number = jobs.sbatch("experiments/011-x/scripts/gh_x_000.slurm", cwd=clone)
    assert slurm.wait(number)["JobState"] == "COMPLETED"
    assert (clone / f"experiments/011-x/slurm/output/011-x_gh_000_{number}.out").is_file()
    assert git(clone, "status", "--porcelain") == "?? experiments/011-x/results/x_gh_000.csv\n"


# Tracked results ------------------------------------------------------------------------------------------------------


def test_results_do_not_make_a_submission_dirty(jobs, slurm):
    (jobs.experiment / "results/split.json").write_text("{}\n")
    commit(jobs.lab.path)
    (jobs.experiment / "results/split.json").write_text('{"test": [1]}\n')
    (jobs.experiment / "results/new.csv").write_text("a\n1\n")
    head = git(jobs.lab.path, "rev-parse", "HEAD").strip()
    for options in ([], ["--live"]):
        done = jobs.submit("gh_x_000", *options, "--", "--hold")
        [number] = submitted(done)
        assert jobs.receipt(number)["commit"] == head and "-dirty" not in done.stdout
        slurm("scancel", number)
    jobs.edit("conf/default.yaml", "title: ", "more: 1\ntitle: ")
    [number] = submitted(jobs.submit("gh_x_000", "--live", "--", "--hold"))
    assert (jobs.receipt(number)["commit"], jobs.receipt(number)["dirty"]) == (head, "true")
    slurm("scancel", number)


def test_results_that_are_large_are_reported(jobs, slurm):
    with (jobs.experiment / "results/big.npz").open("wb") as file:
        file.truncate(60_000_000)
    done = jobs.submit("gh_x_000", "--", "--hold")
    slurm("scancel", *submitted(done))
    name = "experiments/011-x/results/big.npz"
    assert done.stderr == (
        f"submit.sh: {name} has 60 MB and is too large to commit. Move it to DATA_ROOT, or let git ignore it.\n"
    )
    (jobs.experiment / "results/.gitignore").write_text("*.npz\n")
    done = jobs.submit("gh_x_000", "--", "--hold")
    assert done.stderr == ""
    slurm("scancel", *submitted(done))


# Launchers of users ---------------------------------------------------------------------------------------------------

OWN = """\
#!/bin/bash
#SBATCH --job-name=011-own
#SBATCH --output=experiments/011-x/slurm/output/%x_%j.out
set -euo pipefail
touch {mark}-$(date +%s)
run=(
  $(touch {mark}-array)
  experiments/011-x/scripts/x.py
)
echo "started with: $*"
"""


def test_own_launcher_is_read_and_not_executed(jobs, slurm, tmp_path):
    launcher = jobs.experiment / "scripts/own.slurm"
    launcher.write_text(OWN.format(mark=tmp_path / "mark"))
    note = "submit.sh: own: only its text was checked, because it is not a launcher of the template\n"
    done = jobs.submit("--dry-run", "own", "seed=1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "own: ready\n", note)
    done = jobs.submit("own", "seed=1", "--", "--hold")
    [number] = submitted(done)
    assert done.stderr == note and not list(tmp_path.glob("mark*")), "something of it was executed"
    assert jobs.finish(number)["JobState"] == "COMPLETED"
    assert "started with: seed=1" in (jobs.logs / f"011-own_{number}.out").read_text()
    for old, new, reason in (
        ("set -euo", "if\nset -euo", "syntax error"),
        ("#SBATCH --job", " #SBATCH --job", "Slurm ignores the #SBATCH in line 2"),
        ("--job-name=011-own", "--job-name=a/b", "the name of its job has a /"),
    ):
        launcher.write_text(OWN.format(mark=tmp_path / "mark").replace(old, new))
        assert reason in jobs.refused("own")


def test_own_launcher_is_detected_by_its_check_line(jobs, tmp_path):
    line = "printf '%s\\0' '' \"${#python[@]}\""
    jobs.edit("scripts/gh_x_000.slurm", line, f"touch {tmp_path}/mark; {line}")
    done = jobs.submit("--dry-run", "gh_x_000")
    assert (done.returncode, done.stdout) == (0, "gh_x_000: ready\n")
    assert "only its text was checked" in done.stderr and not (tmp_path / "mark").exists()


# run=( ... ) ----------------------------------------------------------------------------------------------------------


def test_run_array_is_evaluated_with_slurm_variables(jobs, slurm):
    jobs.in_run("print('workers', cfg.workers, cfg.name)")
    jobs.edit("conf/x_gh_000.yaml", "start: 0.05", "workers: 0\nname: ''\nstart: 0.05")
    words = '--config-name x_gh_000\n  workers=$((SLURM_CPUS_PER_TASK - 2))\n  name=$(echo "ab")\n'
    jobs.edit("scripts/gh_x_000.slurm", "--config-name x_gh_000\n", words)
    [number] = submitted(jobs.submit("gh_x_000", "--", "-c", "6"))
    assert slurm.wait(number)["JobState"] == "COMPLETED"
    assert "workers 4 ab" in (jobs.logs / f"011-x_gh_000_{number}.out").read_text()
    jobs.edit("scripts/gh_x_000.slurm", "workers=$((SLURM_CPUS", "werkers=$((SLURM_CPUS")
    assert "Could not override 'werkers'" in jobs.refused("gh_x_000")


@pytest.mark.parametrize(
    ("asked", "words", "seen"),
    [
        (["--gres=gpu:3"], "n=$SLURM_GPUS_ON_NODE", "n=3"),
        (["--gpus-per-node=2"], "n=$SLURM_GPUS_ON_NODE", "n=2"),
        (["-n", "2"], "n=$((SLURM_NTASKS * SLURM_CPUS_PER_TASK))", "n=32"),
        (["--array=3-5"], "n=$SLURM_ARRAY_TASK_ID", "n=3"),
        (["--cpus-per-t=5"], "n=$SLURM_CPUS_PER_TASK", "n=5"),
    ],
)
def test_run_array_in_preflight_has_slurm_variables(jobs, asked, words, seen):
    if asked[0].startswith("--gpus"):
        jobs.edit("scripts/gh_x_000.slurm", "#SBATCH --gres=gpu:1\n", "")
    jobs.edit("scripts/gh_x_000.slurm", "--config-name x_gh_000\n", f"--config-name x_gh_000\n  {words}\n")
    line = jobs.refused("gh_x_000", "--", *asked)
    assert "Could not override 'n'" in line and seen in line, line


# The receipt ----------------------------------------------------------------------------------------------------------


def test_receipt_records_the_submission(jobs, slurm):
    words = ["hours=12", "+note='a b'"]
    [number] = submitted(jobs.submit("gh_x_000", *words, "--", "--hold", "-J", "receipt 1"))
    [receipt] = receipts(jobs)
    head = git(jobs.lab.path, "rev-parse", "HEAD")
    assert receipt == {
        "launcher": "gh_x_000\n",
        "config": "\n",
        "name": "\n",
        "commit": head,
        "dirty": "false\n",
        "words": "".join(f"{word}\0" for word in words),
        "options": "--hold\0-J\0receipt 1\0",
        "inputs": "",
        "live": "false\n",
        "job": f"{number}\n",
        "legs": f"{number}\n",
    }
    assert jobs.finish(number)["JobState"] == "COMPLETED"
    assert git(jobs.lab.path, "status", "--porcelain", "--", "experiments/011-x/slurm") == ""


def test_receipt_is_only_kept_for_a_job(lab, slurm):
    jobs = Submitter(lab, slurm, runs={"x": ["gh_000", "gh_001"]})
    stop = '[[ "$*" != *--parsable*gh_x_001* ]] || exit 1\n'
    file = lab.path / "home/bin/sbatch"
    file.write_text(f'#!/bin/bash\n{stop}exec {shutil.which("sbatch")} "$@"\n')
    file.chmod(0o755)
    done = jobs.submit("gh_x_000", "gh_x_001", "--", "--hold")
    assert done.returncode == 1
    assert [receipt["launcher"] for receipt in receipts(jobs)] == ["gh_x_000\n"], "its job was cancelled, and is known"
    assert jobs.submit("--dry-run", "gh_x_000").returncode == 0
    assert len(receipts(jobs)) == 1


def test_receipt_does_not_replace_the_users_comment(jobs, slurm):
    [number] = submitted(jobs.submit("gh_x_000", "--", "--hold"))
    assert "Comment" not in slurm.job(number)
    slurm("scancel", number)
    jobs.edit("scripts/gh_x_000.slurm", "#SBATCH --mem", "#SBATCH --comment=project-7\n#\n#SBATCH --mem")
    [number] = submitted(jobs.submit("gh_x_000", "--", "--hold"))
    assert slurm.job(number)["Comment"] == "project-7"
    slurm("scancel", number)
    [number] = submitted(jobs.submit("gh_x_000", "--", "--hold", "--comment=other"))
    assert slurm.job(number)["Comment"] == "other"
    slurm("scancel", number)


# The package ----------------------------------------------------------------------------------------------------------

OLD_SCRIPT = """\
import os.path as osp

from torchcell import where

if __name__ == "__main__":
    print("package:", osp.realpath(where.__file__))
"""


@pytest.mark.parametrize("source", ["", "src/"])
def test_script_without_runtime_imports_the_pinned_package(lab, slurm, tmp_path, source):
    if source:
        (lab.path / "src").mkdir()
        shutil.move(lab.path / "torchcell", lab.path / "src/torchcell")
    (lab.path / f"{source}torchcell/where.py").write_text("")
    other = tmp_path / "other/torchcell"
    other.mkdir(parents=True)
    (other / "__init__.py").touch()
    (other / "where.py").touch()
    jobs = Submitter(lab, slurm, package="torchcell")
    (jobs.experiment / "scripts/old.py").write_text(OLD_SCRIPT)
    jobs.edit("scripts/gh_x_000.slurm", "scripts/x.py\n  --config-name x_gh_000\n", "scripts/old.py\n")
    done = jobs.submit("gh_x_000", env={"PYTHONPATH": str(tmp_path / "other")})
    [number] = submitted(done)
    assert slurm.wait(number)["JobState"] == "COMPLETED"
    log = (jobs.logs / f"011-x_gh_000_{number}.out").read_text()
    place = jobs.slurm.job(number)["WorkDir"]
    assert f"package: {place}/{source}torchcell/where.py" in log


OLD_HYDRA = """\
import hydra


@hydra.main(version_base=None, config_path="../conf", config_name="old")
def main(cfg):
    print("rate", cfg.rate)


if __name__ == "__main__":
    main()
"""


def test_hydra_script_without_runtime_writes_its_own_outputs(jobs, slurm):
    ignore(jobs.lab, "outputs/", "multirun/")
    (jobs.experiment / "scripts/old.py").write_text(OLD_HYDRA)
    (jobs.experiment / "conf/old.yaml").write_text("rate: 0.5\n")
    jobs.edit("scripts/gh_x_000.slurm", "scripts/x.py\n  --config-name x_gh_000\n", "scripts/old.py\n")
    assert "Could not override 'rat'" in jobs.refused("gh_x_000", "rat=1")
    done = jobs.submit("gh_x_000", "--dry-run")
    assert (done.stdout, done.stderr) == ("gh_x_000: ready\n", "")
    assert not (jobs.lab.path / "outputs").exists()
    [number] = submitted(jobs.submit("gh_x_000", "rate=0.7"))
    log = jobs.logs / f"011-x_gh_000_{number}.out"
    assert slurm.wait(number)["JobState"] == "COMPLETED", log.read_text()
    assert "rate 0.7" in log.read_text()
    [record] = (jobs.lab.path / "outputs").rglob(".hydra/overrides.yaml")
    assert record.read_text() == "- rate=0.7\n"


# The environment of a job ---------------------------------------------------------------------------------------------

PYTHON = '"$HOME/miniconda3/envs/torchcell/bin/python"'


@pytest.mark.parametrize(
    ("python", "lost"),
    [
        (f'env -i HOME="$HOME" PATH="$PATH" {PYTHON}', "EXPERIMENT_END, EXPERIMENT_JOB, EXPERIMENT_LEGS"),
        (f"env -u SLURM_ARRAY_TASK_ID {PYTHON}", "SLURM_ARRAY_TASK_ID"),
        (f"env -u EXPERIMENT_SUBMISSION {PYTHON}", "EXPERIMENT_SUBMISSION"),
    ],
)
def test_python_that_drops_the_environment_is_refused(jobs, python, lost):
    jobs.edit("scripts/gh_x_000.slurm", f"  {PYTHON}\n", f"  {python}\n")
    line = jobs.refused("gh_x_000", "--", "--array=0-1")
    assert line.startswith(f"submit.sh: gh_x_000: python: Python did not get {lost}"), line


def test_environment_of_the_user_does_not_change_runs(jobs, slurm):
    with (jobs.lab.path / ".env").open("a") as file:
        file.write("ENVIRONMENT=production\n")
    jobs.edit("scripts/gh_x_000.slurm", "export PYTHONUNBUFFERED=1", "export ENVIRONMENT=production PYTHONUNBUFFERED=1")
    [number] = submitted(jobs.submit("gh_x_000", "--", "--array=0-1", "-c1", env={"ENVIRONMENT": "production"}))
    for task in (0, 1):
        assert slurm.wait(f"{number}_{task}")["JobState"] == "COMPLETED"
    assert {(record["job"], record["stem"][-1]) for record in jobs.records()} == {
        (f"{number}_0", "0"),
        (f"{number}_1", "1"),
    }


# Copies ---------------------------------------------------------------------------------------------------------------


def test_copy_has_content_links_and_the_execute_bit(jobs, slurm):
    scripts = jobs.experiment / "scripts"
    (scripts / "tool.sh").write_text("#!/bin/bash\n")
    (scripts / "tool.sh").chmod(0o775)
    os.link(scripts / "tool.sh", scripts / "twin.sh")
    (scripts / "-dash \n line").write_bytes(b"\r\n\0")
    (scripts / "link.py").symlink_to("x.py")
    (scripts / "x.py").chmod(0o640)
    number = jobs.hold("gh_x_000")
    copy = jobs.experiment / "slurm/code" / jobs.receipt(number)["commit"] / "experiments/011-x/scripts"
    assert (copy / "-dash \n line").read_bytes() == b"\r\n\0"
    assert os.readlink(copy / "link.py") == "x.py"
    assert {name: os.access(copy / name, os.X_OK) for name in ("tool.sh", "twin.sh", "x.py")} == {
        "tool.sh": True,
        "twin.sh": True,
        "x.py": False,
    }
    assert (copy / "tool.sh").stat().st_nlink == 1, "a disk may have no hard links"
    slurm("scancel", number)


ACL = "system.posix_acl_access"


def test_access_control_list_is_not_copied(jobs, slurm):
    """`cp --preserve=mode` would copy it and fail on a disk without such lists."""
    entries = [(0x01, 6, -1), (0x02, 6, 65534), (0x04, 4, -1), (0x10, 6, -1), (0x20, 4, -1)]  # tag, mode, user
    file = jobs.experiment / "scripts/x.py"
    os.setxattr(file, ACL, struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries))
    number = jobs.hold("gh_x_000")
    copy = jobs.experiment / "slurm/code" / jobs.receipt(number)["commit"] / "experiments/011-x/scripts/x.py"
    assert os.getxattr(file, ACL)
    with pytest.raises(OSError, match=os.strerror(errno.ENODATA)):
        os.getxattr(copy, ACL)
    slurm("scancel", number)
