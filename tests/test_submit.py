"""submit.sh: what it accepts, what it refuses, and how it cancels jobs if it fails half way."""

import json
import os
import re
import shutil
import signal
import subprocess

import pytest
from support.lab import make_lab
from support.process import git, remove, run, wait_until
from support.slurm import WATCH, Submitter, submitted
from support.template import ROOT


@pytest.fixture
def jobs(lab, slurm):
    return Submitter(lab, slurm)


@pytest.fixture
def two(lab, slurm):
    return Submitter(lab, slurm, runs={"x": ["gh_000", "gh_001"]})


def fake_program(jobs, command, body):
    """Put a command first in PATH. $real is the path of the real one."""
    file = jobs.lab.path / "home/bin" / command
    file.write_text(f"#!/bin/bash\nreal={shutil.which(command)}\n{body}\n")
    file.chmod(0o755)


# What it accepts ------------------------------------------------------------------------------------------------------


def test_log_path_does_not_depend_on_the_directory(jobs, slurm):
    numbers = []
    for where, has_folder in (
        (".", True),
        ("experiments/011-x", False),
        ("experiments/011-x/scripts", True),
        ("/", False),
    ):
        if not has_folder:
            remove(jobs.experiment / "slurm")
        numbers += submitted(jobs.submit("gh_x_000", cwd=jobs.lab.path / where))
        assert slurm.wait(numbers[-1])["JobState"] == "COMPLETED"
        assert "figure: " in (jobs.logs / f"011-x_gh_000_{numbers[-1]}.out").read_text()
    assert len(set(numbers)) == 4


def test_launcher_is_accepted_as_name_or_path(jobs):
    for words in (["scripts/gh_x_000.slurm", "--dry-run"], ["--dry-run", "gh_x_000.slurm"], ["--dry-run", "gh_x_000"]):
        assert jobs.submit(*words).stdout == "gh_x_000: ready\n"
    path = os.path.relpath(jobs.experiment / "scripts/gh_x_000.slurm", jobs.lab.data)
    assert jobs.submit("--dry-run", path, cwd=jobs.lab.data).stdout == "gh_x_000: ready\n"


def test_launcher_of_another_experiment_is_refused(jobs):
    other = jobs.lab.render("012-y", runs={"x": ["gh_000"]}, package="")
    for path, cwd in (
        (other / "scripts/gh_x_000.slurm", "/"),
        ("scripts/gh_x_000.slurm", other),
        ("./gh_x_000", other),
    ):
        assert jobs.refused(path, cwd=cwd) == f"submit.sh: {path} is not a launcher in {jobs.experiment}/scripts"


def test_log_path_with_special_characters_works(tmp_path, template, slurm):
    lab = make_lab(tmp_path / "a lab, 100 % é [x]", template)
    jobs = Submitter(lab, slurm)
    done = jobs.submit("gh_x_000", cwd="/")
    [number] = submitted(done)
    assert slurm.wait(number)["JobState"] == "COMPLETED"
    log = jobs.logs / f"011-x_gh_000_{number}.out"
    watch = re.search(r"^  watch  (.*?)^cancel", done.stdout, re.MULTILINE | re.DOTALL)[1]
    assert "figure: " in log.read_text()
    assert run("bash", "-c", watch.replace("tail -F", "cat"), cwd="/").stdout == log.read_text()


def test_log_path_with_a_backslash_is_refused(tmp_path, template, slurm):
    jobs = Submitter(make_lab(tmp_path / "back\\slash", template), slurm)
    assert "Slurm cannot write logs to a path with a control character or a backslash" in jobs.refused("gh_x_000")


def test_log_folder_can_be_a_link_to_scratch(jobs, slurm, tmp_path):
    shutil.rmtree(jobs.logs)
    jobs.logs.symlink_to(tmp_path / "scratch")
    assert "slurm/output is a link to a missing folder" in jobs.refused("gh_x_000")
    (tmp_path / "scratch").mkdir()
    [number] = submitted(jobs.submit("gh_x_000"))
    assert slurm.wait(number)["JobState"] == "COMPLETED"
    assert "figure: " in (tmp_path / f"scratch/011-x_gh_000_{number}.out").read_text()


@pytest.mark.parametrize("folder", ["results", "slurm/output", "slurm/code"])
def test_unwritable_folder_is_refused(jobs, folder):
    shutil.rmtree(jobs.experiment / folder, ignore_errors=True)
    (jobs.experiment / folder).symlink_to("/proc/sys")
    assert jobs.refused("gh_x_000") == f"submit.sh: {jobs.experiment}/{folder} cannot be written"


def test_overrides_reach_hydra_unchanged(jobs, slurm):
    jobs.in_run("import json, omegaconf", "print(json.dumps(omegaconf.OmegaConf.to_container(cfg.got)))")
    jobs.edit("conf/x_gh_000.yaml", "start: 0.05", "got: {a: 1, b: [], c: x}\nstart: 0.05")
    values = ["got.a='it is, \"so\" a=b'", "got.b=[1,two words,{x: 3}]", "+got.d=$HOME %j", "~got.c", "hours=12"]
    [number] = submitted(jobs.submit("gh_x_000", *values, cwd="/"))
    log = jobs.logs / f"011-x_gh_000_{number}.out"
    assert slurm.wait(number)["JobState"] == "COMPLETED", log.read_text()
    got = {"a": 'it is, "so" a=b', "b": [1, "two words", {"x": 3}], "d": "$HOME %j"}
    assert json.dumps(got) in log.read_text()
    assert "hours=12" in jobs.records()[0]["command"]


def test_shell_variables_do_not_change_the_job(jobs, slurm):
    env = {
        "SBATCH_JOB_NAME": "other",
        "SBATCH_HOLD": "1",
        "SBATCH_WAIT": "1",
        "SBATCH_PARTITION": "gpuA40x4",
        "SBATCH_OUTPUT": "/nowhere/x",
        "SBATCH_ACCOUNT": "",
        "SLURM_MEM_PER_CPU": "1",
        "SLURM_NTASKS": "3",
        "CDPATH": "/:/tmp:..",
        "GIT_DIR": "/nowhere",
        "GIT_INDEX_FILE": "/nowhere/index",
        "WANDB_MODE": "offline",
        "WANDB_SERVICE": "3-1-unix-/nowhere",
    }
    [number] = submitted(jobs.submit("gh_x_000", env=env, cwd=jobs.experiment))
    job = slurm.wait(number)
    assert (job["JobState"], job["JobName"], job["Partition"], job["NumTasks"]) == (
        "COMPLETED",
        "011-x_gh_000",
        "main",
        "1",
    )


def test_shell_account_fills_only_an_open_one(lab, slurm):
    jobs = Submitter(lab, slurm, runs={"x": ["delta_000", "slurm_001"]})
    env = {"SBATCH_ACCOUNT": "other"}
    [number] = submitted(jobs.submit("delta_x_000", "--", "--hold", env=env))
    assert slurm.job(number)["Account"] == "bfjt-delta-gpu"
    slurm("scancel", number)
    assert "Invalid account" in jobs.refused("slurm_x_001", env=env)
    [number] = submitted(jobs.submit("slurm_x_001", "--", "--hold", "-Abfjt-delta-gpu", env=env))
    assert slurm.job(number)["Account"] == "bfjt-delta-gpu"
    slurm("scancel", number)


def test_submission_from_inside_another_job(jobs, slurm):
    script = jobs.lab.path / "outer.sh"
    script.write_text("#!/bin/bash\nbash experiments/011-x/scripts/submit.sh gh_x_000\n")
    outer = jobs.sbatch("--output=outer.out", "--array=5", "--mem=1g", "--cpus-per-task=2", script)
    assert slurm.wait(f"{outer}_5")["JobState"] == "COMPLETED", (jobs.lab.path / "outer.out").read_text()
    [number] = re.findall(r": job (\d+)$", (jobs.lab.path / "outer.out").read_text(), flags=re.MULTILINE)
    assert slurm.wait(number)["JobState"] == "COMPLETED"
    assert "SLURM_ARRAY_TASK_ID" not in jobs.records()[0]["slurm"]


def test_job_name_with_a_slash_is_refused(jobs, slurm):
    reason = "submit.sh: gh_x_000: the name of its job has a /, so Slurm could not write its log: "
    for words in ("-J a/b", "-Ja/b", "--job-name=a/b", "--job-name a/b", "--job=a/b", "--hold -Ja/b"):
        assert jobs.refused("gh_x_000", "--", *words.split()) == f"{reason}a/b"
    assert jobs.refused("gh_x_000", "--dry-run", "--", "-Ja/b") == f"{reason}a/b"
    jobs.edit("scripts/gh_x_000.slurm", "--job-name=011-x_gh_000", "--job-name=dose/1")
    assert jobs.refused("gh_x_000") == f"{reason}dose/1"


@pytest.mark.parametrize("options", [["-J", "my name"], ["--job-name=my name"]])
def test_options_of_sbatch_win(jobs, slurm, options):
    options = [*options, "--time=1:00:00", "--mem=2g", "--dependency=singleton", "--array=3"]
    done = jobs.submit("gh_x_000", "--", *options)
    [number] = submitted(done)
    job = slurm.wait(f"{number}_3")
    assert (job["TimeLimit"], job["MinMemoryNode"]) == ("01:00:00", "2G")
    assert f"{WATCH}my\\ name_{number}_3.out\n" in done.stdout
    assert "figure: " in (jobs.logs / f"my name_{number}_3.out").read_text()


CONTRADICTING = [
    ["--test-only"],
    ["--wait"],
    ["-W"],
    ["--quiet"],
    ["-HQ"],
    ["--output=/tmp/x"],
    ["--outp=/tmp/x"],
    ["-o", "x"],
    ["--error=x"],
    ["-e/tmp/x"],
    ["--chdir=/"],
    ["-D", "/"],
    ["--wrap=true"],
    ["--parsable"],
    ["--help"],
    ["--version"],
    ["--uid=1000"],
    ["--gid", "0"],
]


def test_options_that_conflict_are_refused_by_name(jobs):
    for options in CONTRADICTING:
        refusal = jobs.refused("gh_x_000", "--", *options)
        assert "submit.sh does not support " in refusal and f" Remove {options[0]}." in refusal


def test_cpus_per_gpu_replaces_the_cpus_of_the_machine(lab, slurm):
    jobs = Submitter(lab, slurm, runs={"x": [{"gh_000": {"cpus-per-gpu": 4}}]})
    assert slurm.job(jobs.hold("gh_x_000"))["CpusPerTres"].endswith("gpu:4")


def test_options_after_dashes_exclude_scripts(two):
    second = two.experiment / "scripts/gh_x_001.slurm"
    for words in ([second], ["--hold", second], ["-J", "name", "gh_x_001"]):
        assert "only sbatch options can follow --" in two.refused("gh_x_000", "--", *words)
    assert "the last option after -- needs a value" in two.refused("gh_x_000", "--", "-J")
    assert "unrecognized option '--foo'" in two.refused("gh_x_000", "--", "--foo")
    assert "invalid --begin" in two.refused("gh_x_000", "--", "--begin=never").lower()
    assert "unknown option --hold. See --help." in two.refused("gh_x_000", "--hold")


def test_help_prints_the_usage_of_submit(jobs):
    done = jobs.submit("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: submit.sh LAUNCHER") and "--parsable" in done.stdout


def test_dry_run_leaves_nothing(jobs, slurm):
    before = slurm.queue()
    jobs.edit("conf/default.yaml", "title: ", "more: 1\ntitle: ")
    done = jobs.submit("--dry-run", "gh_x_000", "--", "--array=0-3")
    assert (done.returncode, done.stdout, done.stderr) == (0, "gh_x_000: ready\n", "")
    assert slurm.queue() == before
    assert list((jobs.experiment / "slurm/code").iterdir()) == []
    assert "refs/submitted" not in git(jobs.lab.path, "for-each-ref")


def test_missing_slurm_is_one_line(jobs, tmp_path):
    for name in ("bash", "basename", "dirname", "git"):
        (tmp_path / name).symlink_to(shutil.which(name))
    done = jobs.submit("gh_x_000", env={"PATH": str(tmp_path)})
    refusal = "submit.sh: sbatch is not installed here. Submit on the cluster.\n"
    assert (done.returncode, done.stderr) == (1, refusal)


# What it refuses ------------------------------------------------------------------------------------------------------


def test_launcher_that_is_wrong_stops_the_submission(lab, slurm):
    jobs = Submitter(lab, slurm, runs={"x": ["gh_000", "delta_001"]})
    launcher = "scripts/gh_x_000.slurm"
    original = (jobs.experiment / launcher).read_text()
    line_of = {line: number for number, line in enumerate(original.splitlines(), 1)}["#SBATCH --mem=64g"]
    lost = "its configuration experiments/011-x/conf/x_gh_999.yaml does not exist"
    for old, new, reason in [
        ("--partition=main", "--partition=mars", "invalid partition specified: mars"),
        ("--mem=64g", "--mem=9999g", "Requested node configuration is not available"),
        ("--gres=gpu:1", "--gres=gpu:5", "Requested node configuration is not available"),
        ("--time=2-00:00:00", "--time=soon", "Invalid --time specification"),
        ("#SBATCH --mem", " #SBATCH --mem", f"Slurm ignores the #SBATCH in line {line_of}"),
        ("#SBATCH --mem=64g", "true\n#SBATCH --mem=64g", f"Slurm ignores the #SBATCH in line {line_of + 1}"),
        ("export PYTHON", "if true; then\nexport PYTHON", "syntax error"),
        ("x_gh_000\n", "x_gh_999\n", lost),
        ("--config-name x_gh_000", "'--config-name=x_gh_999'", lost),
        ("scripts/x.py", "scripts/z.py", "its script experiments/011-x/scripts/z.py does not exist"),
        ("run=(", "walk=(", "it lacks its command, run=( ... )"),
        ("\n", "\r\n", "it has DOS line breaks"),
    ]:
        assert old in original
        (jobs.experiment / launcher).write_text(original.replace(old, new))
        line = jobs.refused("delta_x_001", "gh_x_000")
        assert line.startswith("submit.sh: gh_x_000: ") and reason in line, line
    (jobs.experiment / launcher).write_text(original)

    jobs.edit("scripts/delta_x_001.slurm", "bfjt-delta-gpu", "other-account")
    assert "delta_x_001: allocation failure: Invalid account" in jobs.refused("gh_x_000", "delta_x_001")
    path = jobs.experiment / "scripts/gh_x_999.slurm"
    assert jobs.refused("gh_x_999") == (f"submit.sh: the launcher {path} does not exist. Write overrides as KEY=VALUE.")
    assert jobs.refused("gh_x_000", "gh_x_000.slurm") == "submit.sh: gh_x_000 is given twice. Remove one."
    assert jobs.refused("gh_x_000", "--", "--mem-per-cpu=2g") == (
        "submit.sh: gh_x_000: sbatch: fatal: --mem, --mem-per-cpu, and --mem-per-gpu are mutually exclusive."
        " The launcher has --mem=64g."
    )
    jobs.edit("scripts/gh_x_000.slurm", "--mem=64g", "--memory=64g")
    assert jobs.refused("gh_x_000") == "submit.sh: gh_x_000: sbatch: unrecognized option '--memory=64g'"
    jobs.edit("scripts/gh_x_000.slurm", "#SBATCH --memory=64g", "#SBATCH --error=x.out\n#SBATCH --partition=mars")
    assert jobs.refused("gh_x_000").startswith("submit.sh: gh_x_000: sbatch: error: invalid partition specified: mars")
    assert jobs.refused() == "submit.sh: no launcher is given; expected some of: delta_x_001.slurm gh_x_000.slurm"


def test_export_without_all_is_a_warning(jobs):
    done = jobs.submit("gh_x_000", "--dry-run", "--", "--export=NONE")
    assert done.stderr == (
        "submit.sh: gh_x_000: the job does not have the environment of the preflight: --export is NONE\n"
    )
    assert jobs.submit("gh_x_000", "--dry-run", "--", "--export=ALL,A=1").stderr == ""


def test_launcher_configuration_is_read_only_from_run(jobs, slurm):
    text = (jobs.experiment / "scripts/gh_x_000.slurm").read_text()
    changed = text.replace("run=(", '# --config-name x_gh_998\necho "--config-name x_gh_997" conf/x_gh_996.yaml\nrun=(')
    changed = changed.replace("--config-name x_gh_000", '-cn "x_gh_000" # --config-name x_gh_995\n  "hours=12"')
    (jobs.experiment / "scripts/gh_x_000.slurm").write_text(changed)
    [number] = submitted(jobs.submit("gh_x_000"))
    assert slurm.wait(number)["JobState"] == "COMPLETED"
    assert "hours=12" in jobs.records()[0]["command"]


HOSTILE = {
    "BASH_FUNC_cd%%": "() { echo moved; }",
    "BASH_FUNC_grep%%": '() { command grep --color=always "$@"; }',
    "BASH_FUNC_printf%%": "() { echo printed; }",
    "BASH_FUNC_sbatch%%": "() { echo 1; }",
    "BASHOPTS": "nocasematch:failglob:xpg_echo:localvar_inherit",
    "CDPATH": "/:/tmp:..",
    "ENV": "/nowhere",
    "GIT_LITERAL_PATHSPECS": "1",
    "GLOBIGNORE": "*",
    "GREP_OPTIONS": "--color=always",
    "LANGUAGE": "de",
    "LC_ALL": "xx_YY.UTF-8",
    "POSIXLY_CORRECT": "1",
    "SHELLOPTS": "noclobber:noglob:posix",
    "SQUEUE_FORMAT2": "Comment",
    "SQUEUE_STATES": "suspended",
    "SCANCEL_STATE": "suspended",
    "TAR_OPTIONS": "--exclude=*.py",
}


@pytest.mark.parametrize("umask", [0o077, 0o000])
def test_shell_settings_do_not_change_the_submission(jobs, slurm, tmp_path, umask):
    (tmp_path / "env.sh").write_text(
        "echo from BASH_ENV; echo from BASH_ENV >&2; alias grep=false; shopt -s expand_aliases\n"
    )
    env = HOSTILE | {"BASH_ENV": str(tmp_path / "env.sh"), "BASH_FUNC_module%%": "() {  echo from module\n}"}
    jobs.edit("scripts/gh_x_000.slurm", "\nexport PYTHON", "\nmodule\nexport PYTHON")
    command = [f"umask {umask:o}; exec bash $0 gh_x_000", jobs.experiment / "scripts/submit.sh"]
    done = run("bash", "-pc", *command, cwd=jobs.lab.path, env=jobs.environment | env)
    [number] = submitted(done)
    log = jobs.logs / f"011-x_gh_000_{number}.out"
    assert f"\n{WATCH}{log.name}\n" in done.stdout
    assert slurm.wait(number)["JobState"] == "COMPLETED", log.read_text()
    assert "from module\n" in log.read_text() and "figure: " in log.read_text()
    assert [path.name for path in (jobs.experiment / "slurm/code").iterdir()] == [jobs.receipt(number)["commit"]]


def test_shell_settings_that_would_fail_are_one_line(jobs, tmp_path):
    (tmp_path / "env.sh").write_text("cd /\n")
    assert jobs.refused("gh_x_000", env={"BASH_ENV": str(tmp_path / "env.sh")}) == (
        f"submit.sh: BASH_ENV: {tmp_path}/env.sh changes the directory, so launchers would not find their scripts."
        " Run: unset BASH_ENV"
    )
    assert jobs.refused("gh_x_000", env={"TMPDIR": "/nowhere"}) == (
        "submit.sh: TMPDIR: /nowhere is not a writable folder. Create it, or set TMPDIR to another folder."
    )


# The last lines -------------------------------------------------------------------------------------------------------

REPORT = """
. "$0/template/scripts/runtime/report.sh"
logs=$1 jobs=("${@:2}")
shorten_logs
print_watch 'a name_7' N/A
print_watch 'a name_7' 3-5
print_cancel
"""


def test_last_lines_fit_80_columns_and_can_be_typed(tmp_path):
    logs = tmp_path / "a lab" / ("long" * 8) / "slurm/output"
    (logs / "sub/deep").mkdir(parents=True)
    (logs / "a name_7.out").write_text("the log\n")

    def report(where, *numbers):
        """Return what is printed in a folder, after the first command was typed there."""
        here = {"cwd": where, "env": os.environ | {"HOME": str(tmp_path)}}
        shown = run("bash", "-euc", REPORT, ROOT, logs, *map(str, numbers), check=True, **here).stdout
        assert max(map(len, shown.splitlines())) <= 80
        watch = shown.split("  watch  ")[1].replace("tail -F", "cat")
        assert run("bash", "-c", watch, **here).stdout == "the log\n"
        return shown

    assert report(logs.parent, 7) == (
        "  watch  tail -F output/a\\ name_7.out\n  watch  tail -F output/a\\ name_7_3.out\ncancel scancel 7\n"
    )
    assert report(logs, 7, 8, 9).endswith("tail -F ./a\\ name_7_3.out\ncancel scancel 7 8 9\n")
    assert "  watch  tail -F ../../a\\ name_7.out\n" in report(logs / "sub/deep", 7)
    numbers = [*range(7, 47), *range(101, 181, 2)]
    shown = report("/", *numbers)
    assert shown.startswith(
        f"  watch  (cd ~/a\\ lab/{'long' * 8}/slurm/output &&\n           tail -F a\\ name_7.out)\n"
    )
    assert "\ncancel scancel {7..46} 101 " in shown
    typed = shown.partition("\ncancel scancel")[2]
    assert run("bash", "-c", f"echo {typed}").stdout.split() == list(map(str, numbers))


# When it starts -------------------------------------------------------------------------------------------------------


def test_estimated_start_is_printed(two, slurm):
    done = two.submit("gh_x_000", "gh_x_001", "--", "--begin=2040-01-02T03:04:05")
    assert done.stdout.count("\n  start  2040-01-02 03:04:05, as Slurm estimates\n  watch  ") == 2
    slurm("scancel", *submitted(done))
    done = two.submit("gh_x_000", "--", "--hold")
    assert "  start  " not in done.stdout
    slurm("scancel", *submitted(done))


def test_partition_without_nodes_is_a_warning(jobs, slurm):
    node = slurm("sinfo", "--noheader", "--format=%n").split()[0]
    slurm("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
    try:
        wait_until(lambda: slurm("sinfo", "--noheader", "--format=%T").split()[0] == "drained")
        done = jobs.submit("gh_x_000")
        line = "gh_x_000: Slurm does not know yet when it can start: Requested node configuration is not available"
        assert done.stderr == f"submit.sh: {line}\n" and "  start  " not in done.stdout
        [number] = submitted(done)
        assert slurm.job(number)["JobState"] == "PENDING"
        slurm("scancel", number)
        before = slurm.queue()
        done = jobs.submit("gh_x_000", "--", "--mem=9999g")
        assert (done.returncode, done.stdout, slurm.queue()) == (1, "", before)
        assert "Memory specification can not be satisfied" in done.stderr and done.stderr.count("\n") == 1
    finally:
        slurm("scontrol", "update", f"nodename={node}", "state=resume")
        wait_until(lambda: slurm("sinfo", "--noheader", "--format=%T").split()[0] == "idle")


# Stages ---------------------------------------------------------------------------------------------------------------

CHAIN = """\
submit() { bash experiments/011-x/scripts/submit.sh --parsable "$@"; }
first=$(submit gh_x_000 "$@") \\
  && second=$(submit gh_x_000 -- --dependency=afterok:$first --kill-on-invalid-dep=yes) \\
  && third=$(submit gh_x_000 -- --dependency=afterok:$second --kill-on-invalid-dep=yes) \\
  && echo $first $second $third
"""


def test_stages_start_after_one_another(jobs, slurm):
    jobs.lab.write_light('if cfg.get("fail"): raise SystemExit(3)', script="x")

    def chain(*words):
        done = run("bash", "-c", CHAIN, "-", *words, "--", "--hold", cwd=jobs.lab.path, env=jobs.environment)
        assert (done.returncode, done.stderr) == (0, "")
        first, *rest = done.stdout.split()
        return [jobs.finish(first), *map(slurm.wait, rest)]

    stages = chain()
    assert [stage["JobState"] for stage in stages] == ["COMPLETED"] * 3
    assert stages[0]["EndTime"] <= stages[1]["StartTime"] and stages[1]["EndTime"] <= stages[2]["StartTime"]
    stages = chain("+fail=1")
    assert [stage["JobState"] for stage in stages] == ["FAILED", "CANCELLED", "CANCELLED"]
    after = f"afterok:{stages[0]['JobId']}"
    line = jobs.refused("gh_x_000", "--", f"--dependency={after}", "--kill-on-invalid-dep=yes")
    assert line.startswith(f"submit.sh: gh_x_000: it depends on a job that has failed: {after}")


def test_parsable_prints_only_job_numbers(two, slurm):
    done = two.submit("--parsable", "gh_x_000", "gh_x_001", "--", "--hold", "--export=NONE")
    numbers = done.stdout.splitlines()
    assert len(numbers) == 2 and set(numbers) <= set(slurm.queue())
    assert done.stderr.count("--export is NONE") == 2
    slurm("scancel", *numbers)
    assert two.submit("--parsable", "--dry-run", "gh_x_000").stdout == ""


def test_rules_of_a_machine_are_printed_once(lab, slurm):
    jobs = Submitter(lab, slurm, runs={"x": ["igb_mmli_000", "igb_mmli_001", "gh_002"]})
    done = jobs.submit("--parsable", "igb_mmli_x_000", "igb_mmli_x_001", "gh_x_002", "--", "--hold")
    slurm("scancel", *done.stdout.split())
    rules = [line for line in done.stderr.splitlines() if "rule" in line]
    assert rules == [
        "submit.sh: rule of igb_mmli: no Python on login nodes",
        "submit.sh: rule of igb_mmli: large files go to /scratch",
    ]


# All or none ----------------------------------------------------------------------------------------------------------

SECOND_FAILS = '[[ "$*" != *--parsable*gh_x_001* ]] || { echo "sbatch: error: gone" >&2; exit 1; }\nexec $real "$@"'


def test_submission_that_fails_cancels_earlier_jobs(two, slurm):
    fake_program(two, "sbatch", SECOND_FAILS)
    done = two.submit("gh_x_000", "gh_x_001", "--", "--begin=now+1hour")
    [number] = re.findall(r"^submit.sh: gh_x_001: sbatch: error: gone; cancelled: (\d+)\n$", done.stderr)
    assert (done.returncode, done.stdout) == (1, "") and slurm.wait(number)["JobState"] == "CANCELLED"


def test_submission_lists_jobs_it_could_not_cancel(two, slurm):
    fake_program(two, "sbatch", SECOND_FAILS)
    fake_program(two, "scancel", 'echo "scancel: error: no contact" >&2; exit 1')
    done = two.submit("gh_x_000", "gh_x_001", "--", "--begin=now+1hour")
    [number] = re.findall(r"; still queued, because scancel failed \(error: no contact\): (\d+)\n$", done.stderr)
    assert (done.returncode, done.stdout) == (1, "")
    slurm("scancel", number)


def test_submission_interrupted_cancels_earlier_jobs(two, slurm, tmp_path):
    wait = f"touch {tmp_path}/here; until [[ -e {tmp_path}/go ]]; do sleep 0.1; done"
    fake_program(two, "sbatch", f'[[ "$*" != *--parsable* ]] || {{ {wait}; }}\nexec $real "$@"')
    command = ["bash", two.experiment / "scripts/submit.sh", "gh_x_000", "gh_x_001", "--", "--hold"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    before = set(slurm.queue())
    process = subprocess.Popen(command, env=two.environment, start_new_session=True, **pipes)
    wait_until((tmp_path / "here").exists)
    os.killpg(process.pid, signal.SIGTERM)
    (tmp_path / "go").touch()
    _, stderr = process.communicate(timeout=60)
    [number] = re.findall(r"submit.sh: interrupted; cancelled: (\d+)\n", stderr)
    assert process.returncode == 1 and slurm.wait(number)["JobState"] == "CANCELLED"
    assert set(slurm.queue()) == before


def test_submission_prints_warnings_of_sbatch(two, slurm):
    note = '$real "$@"; code=$?; [[ "$*" != *--parsable* ]] || { echo "a note"; echo "another" >&2; }; exit $code'
    fake_program(two, "sbatch", note)
    done = two.submit("gh_x_000", "gh_x_001", "--", "--hold")
    numbers = submitted(done)
    assert len(numbers) == 2 and "submit.sh: gh_x_000: another\n" in done.stderr
    assert set(numbers) <= set(slurm.queue())
    slurm("scancel", *numbers)


# What Slurm did -------------------------------------------------------------------------------------------------------

TIMED_OUT = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
SECOND = '[[ "$*" == *--parsable*gh_x_001* ]] || exec $real "$@"\n'


@pytest.mark.parametrize(
    ("accept", "message"),
    [
        (f'$real "$@" > /dev/null; echo "{TIMED_OUT}" >&2; exit 1', TIMED_OUT),
        ('$real "$@" > /dev/null', "sbatch printed no job, exit code 0"),
        (f'(sleep 1; $real "$@") > /dev/null 2>&1 & echo "{TIMED_OUT}" >&2; exit 1', TIMED_OUT),
    ],
    ids=["fails", "prints nothing", "accepts later"],
)
def test_job_that_sbatch_lost_is_found(two, slurm, accept, message):
    """The second launcher is one of the user's own, with a comment."""
    two.edit("scripts/gh_x_001.slurm", "if [[ ${1-} == --check ]]", "if [[ ${1-} == --own-check ]]")
    two.edit("scripts/submit.sh", "delays=(0 5 10 15)", "delays=(0 2)")
    fake_program(two, "sbatch", SECOND + accept)
    done = two.submit("gh_x_000", "gh_x_001", "--", "--hold", "--comment=mine")
    numbers = submitted(done)
    assert len(set(numbers)) == 2 and set(numbers) <= set(slurm.queue())
    assert f"submit.sh: gh_x_001: sbatch failed, but Slurm accepted the job: {message}\n" in done.stderr
    assert two.receipt(numbers[1])["launcher"] == "gh_x_001"
    assert slurm.job(numbers[1])["Comment"] == "mine"
    slurm("scancel", *numbers)


def test_job_that_was_accepted_twice_is_cancelled(two, slurm):
    before = set(slurm.queue())
    fake_program(two, "sbatch", f'{SECOND}$real "$@" > /dev/null; $real "$@" > /dev/null; exit 1')
    done = two.submit("gh_x_000", "gh_x_001", "--", "--hold")
    assert (done.returncode, done.stdout) == (1, "")
    reason = r"Slurm accepted more than one job: sbatch printed no job, exit code 1; cancelled: \d+ \d+ \d+"
    assert re.fullmatch(rf"submit.sh: gh_x_001: {reason}\n", done.stderr)
    wait_until(lambda: set(slurm.queue()) == before)


def test_job_that_slurm_lost_is_reported(two, slurm):
    """The printed command finds it once squeue answers again."""
    fake_program(two, "sbatch", f'{SECOND}$real "$@" > /dev/null; echo "{TIMED_OUT}" >&2; exit 1')
    fake_program(two, "squeue", 'echo "squeue: error: no contact" >&2; exit 1')
    done = two.submit("gh_x_000", "gh_x_001", "--", "--hold")
    head = f"submit.sh: gh_x_001: {TIMED_OUT}; squeue failed: squeue: error: no contact; cancelled: "
    found = re.fullmatch(rf"{re.escape(head)}(\d+)\. Look for a job of gh_x_001: (.*)\n", done.stderr)
    assert found and (done.returncode, done.stdout) == (1, "")
    assert slurm.wait(found[1])["JobState"] == "CANCELLED"
    number, command = run("bash", "-c", found[2]).stdout.split()[:2]
    receipt = two.experiment / "slurm/submitted" / command.split("/slurm/submitted/")[1].split("/")[0]
    assert (receipt / "launcher").read_text() == "gh_x_001\n", "the job reads its receipt"
    slurm("scancel", number)


def test_log_path_is_printed_only_if_it_is_known(jobs, slurm, tmp_path):
    fake_program(jobs, "squeue", f'mkdir {tmp_path}/asked 2> /dev/null && exit 1\nexec $real "$@"')
    done = jobs.submit("gh_x_000", "--", "--hold")
    [number] = submitted(done)
    assert f"\n{WATCH}011-x_gh_000_{number}.out\n" in done.stdout
    slurm("scancel", number)
    fake_program(jobs, "squeue", 'echo "squeue: error: no contact" >&2; exit 1')
    done = jobs.submit("gh_x_000", "--", "--hold")
    [number] = submitted(done)
    reason = "because squeue failed (squeue: error: no contact). It will be\n         in"
    logs = "experiments/011-x/slurm/output"
    assert f"gh_x_000: job {number}\n  log    unknown, {reason} {logs}\ncancel scancel {number}\n" in done.stdout
    slurm("scancel", number)
