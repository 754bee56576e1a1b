"""Pinning: a job runs the code as submitted, and submit.sh leaves the user's repository alone."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.lab import make_lab
from support.process import commit, git, remove, run
from support.slurm import Submitter, submitted

FULL = 40  # digits of a commit


@pytest.fixture
def jobs(lab, slurm):
    """Return an experiment that uses the lab's package."""
    return Submitter(lab, slurm, package="torchcell")


def pinned_of(jobs, number):
    """Return the pinned code of a job, and its submitted.json."""
    folder = jobs.experiment / "slurm/code" / jobs.receipt(number)["commit"]
    return folder, json.loads((folder / "submitted.json").read_text())


def state(repository):
    """Return the state of git and the scripts, to compare before and after."""
    index = repository / ".git/index"
    return (
        index.read_bytes(),
        [line for line in git(repository, "for-each-ref").splitlines() if "refs/submitted/" not in line],
        git(repository, "rev-parse", "HEAD"),
        (repository / ".git/HEAD").read_text(),
        git(repository, "stash", "list"),
        {path: path.read_bytes() for path in (repository / "experiments/011-x/scripts").glob("*") if path.is_file()},
    )


FIND_PACKAGE = """
root=$1 folder=$1/experiments/011-x repository=$1 package=torchcell
declare -A request=([live]=yes)
. "$folder/scripts/runtime/pin.sh"
find_package
if [[ $package_path ]]; then realpath -- "$folder/$package_path"; fi
"""


@pytest.mark.parametrize("layout", [["torchcell"], ["src/torchcell"], ["torchcell", "src/torchcell"], []])
def test_package_of_submit_is_that_of_scripts(lab, layout):
    lab.render(package="torchcell")
    remove(lab.path / "torchcell")
    for folder in layout:
        (lab.path / folder).mkdir(parents=True)
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); from runtime.paths import package_folder as f; print(f() or '')"
    )
    found = lab.python("-c", script, "experiments/011-x/scripts", check=True).stdout
    assert run("bash", "-c", FIND_PACKAGE, "-", lab.path, check=True).stdout.strip() == found.strip()
    assert found.strip() == (str(lab.path / layout[0]) if layout else "")


# Queued jobs ----------------------------------------------------------------------------------------------------------


def test_queued_job_runs_the_code_as_submitted(jobs, slurm):
    jobs.in_run('print("the first")')
    (jobs.experiment / "scripts/helper.py").write_text('TEXT = "untracked"\n')
    jobs.edit("scripts/x.py", "import os.path as osp\n", "import os.path as osp\n\nimport helper\nprint(helper.TEXT)\n")
    number = jobs.hold("gh_x_000")
    git(jobs.lab.path, "checkout", "--quiet", "-b", "other")
    jobs.edit("scripts/x.py", 'print("the first")', 'raise SystemExit("the second")')
    jobs.edit("conf/x_gh_000.yaml", "hours: 24", "hours: 48")
    (jobs.lab.path / "torchcell/timestamp.py").write_text("def timestamp():\n    return 'changed'\n")
    (jobs.experiment / "scripts/helper.py").unlink()
    (jobs.experiment / "scripts/gh_x_000.slurm").unlink()
    shutil.rmtree(jobs.experiment / "scripts/runtime")
    job = jobs.finish(number)
    log = (jobs.logs / f"011-x_gh_000_{number}.out").read_text()
    assert job["JobState"] == "COMPLETED", log
    assert "untracked\nthe first\n" in log
    [figure] = re.findall("^figure: (.*)$", log, re.MULTILINE)
    assert "changed" not in figure
    assert (jobs.experiment / "results/x_gh_000.csv").is_file(), "results belong to the experiment itself"
    [record] = jobs.records()
    assert (record["commit"], record["dirty"]) == (jobs.receipt(job["JobId"])["commit"], True)
    assert 'print("the first")' in git(jobs.lab.path, "show", f"{record['commit']}:experiments/011-x/scripts/x.py")


def test_live_job_runs_the_code_at_its_start(jobs):
    head = git(jobs.lab.path, "rev-parse", "HEAD").strip()
    done = jobs.submit("--live", "gh_x_000", "--", "--hold")
    [number] = submitted(done)
    assert f"\ncommit {head}\n  live   the jobs run the files of" in done.stdout
    assert jobs.receipt(number)["commit"] == head
    jobs.in_run('print("changed")')
    assert jobs.finish(number)["JobState"] == "COMPLETED"
    assert "changed" in (jobs.logs / f"011-x_gh_000_{number}.out").read_text()
    assert jobs.records()[0]["commit"] == head and not list((jobs.experiment / "slurm/code").iterdir())
    [number] = submitted(jobs.submit("--live", "gh_x_000", "--", "--hold"))
    assert (jobs.receipt(number)["commit"], jobs.receipt(number)["dirty"]) == (head, "true")
    jobs.slurm("scancel", number)


def test_bytecode_of_pinned_code_is_that_of_its_text(jobs):
    """Bytecode comes from the copy before. An edit counts even if it changes neither the file's time nor its size."""
    module, copies = jobs.experiment / "scripts/runtime/usage.py", []
    text, times = module.read_text(), (1.7e9, 1.7e9)
    for word in ("one", "two"):
        module.write_text(f'{text}WORD = "{word}"\n')
        os.utime(module, times)
        number = jobs.hold("gh_x_000")
        folder, _ = pinned_of(jobs, number)
        jobs.slurm("scancel", number)
        copies.append(folder / "experiments/011-x/scripts")
        stored = Path(importlib.util.cache_from_source(copies[-1] / "runtime/locks.py"))
        stored.chmod(0o644)
        stored.write_bytes(stored.read_bytes() + b"marked")
    assert stored.read_bytes().endswith(b"markedmarked"), "the second copy has the bytecode of the first one"
    for word, scripts in zip(("one", "two"), copies, strict=True):
        for path in (scripts / "runtime").rglob("*.py"):
            code = Path(importlib.util.cache_from_source(path)).read_bytes()
            checked_hash = b"\3\0\0\0" + importlib.util.source_hash(path.read_bytes())
            assert code.startswith(importlib.util.MAGIC_NUMBER + checked_hash), path
        words = ["-c", "from runtime.usage import WORD; print(WORD)"]
        assert run(sys.executable, *words, cwd=scripts).stdout == f"{word}\n"


def test_pinned_run_does_not_need_git(jobs):
    number = jobs.hold("gh_x_000")
    shutil.move(jobs.lab.path / ".git", jobs.lab.path / "gone")
    assert jobs.finish(number)["JobState"] == "COMPLETED"
    log = (jobs.logs / f"011-x_gh_000_{number}.out").read_text()
    assert "no commit" not in log
    shutil.move(jobs.lab.path / "gone", jobs.lab.path / ".git")
    [record] = jobs.records()
    assert (record["commit"], record["dirty"]) == (git(jobs.lab.path, "rev-parse", "HEAD").strip(), False)


# The commit and the folder --------------------------------------------------------------------------------------------


def test_pinned_commit_is_head_or_a_commit_of_the_changes(jobs, slurm):
    head = git(jobs.lab.path, "rev-parse", "HEAD").strip()
    done = jobs.submit("gh_x_000", "--", "--hold")
    [first] = submitted(done)
    assert done.stdout.endswith(f"commit {head}\n") and jobs.receipt(first)["commit"] == head
    folder, said = pinned_of(jobs, first)
    assert said == {"commit": head, "dirty": False, "experiment": str(jobs.experiment)}
    assert sorted(path.name for path in folder.iterdir()) == [
        ".env",
        "experiments",
        "multirun",
        "outputs",
        "submitted.json",
        "torchcell",
    ]
    assert not (folder / "experiments/011-x/results").exists() and not (folder / "experiments/011-x/slurm").exists()
    assert os.readlink(folder / ".env") == str(jobs.lab.path / ".env")
    assert not any(path.stat().st_mode & 0o222 for path in folder.rglob("*") if not path.is_symlink())

    jobs.edit("conf/x_gh_000.yaml", "hours: 24", "hours: 48")
    (jobs.experiment / "results/table.csv").write_text("not code\n")
    before = state(jobs.lab.path)
    done = jobs.submit("gh_x_000", "--", "--hold", cwd="/")
    [second] = submitted(done)
    assert state(jobs.lab.path) == before
    folder, said = pinned_of(jobs, second)
    dirty = said["commit"]
    assert said == {"commit": dirty, "dirty": True, "experiment": str(jobs.experiment)} and len(dirty) == FULL
    assert git(jobs.lab.path, "rev-parse", f"{dirty}^", f"refs/submitted/{dirty}").split() == [head, dirty]
    assert git(jobs.lab.path, "diff", "--name-only", head, dirty) == "experiments/011-x/conf/x_gh_000.yaml\n"
    shown, command = done.stdout.split(" has your uncommitted changes:\n")
    assert shown.endswith(f"\ncommit {dirty}")
    assert "+hours: 48" in run("bash", "-c", command, cwd="/").stdout

    [third] = submitted(jobs.submit("gh_x_000", "--", "--hold"))
    assert pinned_of(jobs, third)[0] == folder, "equal trees are one commit"
    slurm("scancel", first, second, third)


def test_pinned_files_are_byte_identical(jobs, slurm):
    (jobs.lab.path / ".gitattributes").write_text("*.txt text eol=crlf\n*.ipynb filter=strip\n*.id ident\n")
    git(jobs.lab.path, "config", "filter.strip.clean", "sed s/output/stripped/")
    git(jobs.lab.path, "config", "filter.strip.required", "true")
    git(jobs.lab.path, "config", "core.autocrlf", "true")
    (jobs.experiment / ".gitattributes").write_text("*.yaml export-ignore\n*.md export-subst\n")
    files = {
        "conf/mixed.txt": b"a\r\nb\nc\r\n",
        "conf/note.ipynb": b"output\n",
        "conf/some.id": b"$Id$\n",
        "conf/subst.md": b"$Format:%H$\n",
        "conf/ binary\xc3\xa9\n".strip(): b"",
    }
    files = {name: content for name, content in files.items() if isinstance(name, str)}
    files |= {"conf/sp ace [é].bin": bytes(range(256)), "scripts/tool.sh": b"#!/bin/sh\n"}
    for name, content in files.items():
        (jobs.experiment / name).write_bytes(content)
    (jobs.experiment / "scripts/tool.sh").chmod(0o755)
    for changed in ("new", "committed"):
        if changed == "committed":
            commit(jobs.lab.path)
        [number] = submitted(jobs.submit("gh_x_000", "--", "--hold"))
        folder, said = pinned_of(jobs, number)
        assert said["dirty"] == (changed == "new")
        for name, content in files.items():
            assert (folder / "experiments/011-x" / name).read_bytes() == content
        assert os.access(folder / "experiments/011-x/scripts/tool.sh", os.X_OK)
        assert (folder / "experiments/011-x/conf/x_gh_000.yaml").is_file()
        slurm("scancel", number)
    assert git(jobs.lab.path, "show", f"{said['commit']}:experiments/011-x/conf/note.ipynb") == "stripped\n"


def test_file_saved_while_it_is_copied_is_committed_too(jobs, slurm):
    """git reads the files before tar does."""
    configuration, tar = jobs.experiment / "conf/x_gh_000.yaml", jobs.lab.path / "home/bin/tar"
    save = f"[[ $* != *--create* ]] || sed -i 's/hours: 24/hours: 48/' {configuration}"
    tar.write_text(f'#!/bin/bash\n{save}\nexec {shutil.which("tar")} "$@"\n')
    tar.chmod(0o755)
    git(jobs.lab.path, "config", "core.ignoreStat", "true")
    number = jobs.hold("gh_x_000")
    folder, said = pinned_of(jobs, number)
    assert "hours: 48" in (folder / "experiments/011-x/conf/x_gh_000.yaml").read_text()
    assert "hours: 48" in git(jobs.lab.path, "show", f"{said['commit']}:experiments/011-x/conf/x_gh_000.yaml")
    slurm("scancel", number)


def test_pinning_ignores_git_hooks_and_settings(jobs, slurm):
    lab, hooks = jobs.lab.path, jobs.lab.path / ".git/hooks"
    hooks.mkdir(exist_ok=True)
    for hook in ("pre-commit", "post-commit", "reference-transaction", "post-index-change", "fsmonitor"):
        (hooks / hook).write_text(f"#!/bin/sh\ntouch {lab}/data/{hook}\nsleep 600\n")
        (hooks / hook).chmod(0o755)
    for name, value in {
        "core.fsmonitor": hooks / "fsmonitor",
        "core.splitIndex": "true",
        "core.safecrlf": "true",
        "commit.gpgSign": "true",
        "status.showUntrackedFiles": "no",
    }.items():
        git(lab, "-c", "core.hooksPath=/dev/null", "config", name, value)
    jobs.edit("conf/x_gh_000.yaml", "hours: 24", "hours: 48")
    (jobs.experiment / "conf/new.yaml").write_text("a: 1\n")
    before = (lab / ".git/index").read_bytes(), sorted(os.listdir(lab / ".git"))
    number = jobs.hold("gh_x_000")
    assert ((lab / ".git/index").read_bytes(), sorted(os.listdir(lab / ".git"))) == before
    assert (pinned_of(jobs, number)[0] / "experiments/011-x/conf/new.yaml").is_file()
    [live] = submitted(jobs.submit("--live", "gh_x_000", "--", "--hold"))
    assert list(jobs.lab.data.iterdir()) == []
    slurm("scancel", number, live)


def test_pinning_keeps_staged_work_and_a_rebase(jobs, slurm):
    lab = jobs.lab.path
    jobs.edit("conf/x_gh_000.yaml", "hours: 24", "hours: 25")
    commit(lab, "Ours")
    git(lab, "checkout", "--quiet", "-b", "theirs", "HEAD~1")
    jobs.edit("conf/x_gh_000.yaml", "hours: 24", "hours: 26")
    commit(lab, "Theirs")
    assert run("git", "rebase", "main", cwd=lab).returncode != 0
    jobs.edit("conf/x_gh_000.yaml", "<<<<<<<", "# <<<<<<<")
    text = (jobs.experiment / "conf/x_gh_000.yaml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith(("# <<<", "===", ">>>", "hours: 26"))]
    (jobs.experiment / "conf/x_gh_000.yaml").write_text("\n".join(lines) + "\n")
    (jobs.experiment / "scripts/staged.py").write_text("")
    git(lab, "add", "experiments/011-x/scripts/staged.py")
    (jobs.experiment / "scripts/staged.py").unlink()
    before = state(lab), git(lab, "status")
    number = jobs.hold("gh_x_000")
    assert (state(lab), git(lab, "status")) == before
    folder, _ = pinned_of(jobs, number)
    assert "hours: 25" in (folder / "experiments/011-x/conf/x_gh_000.yaml").read_text()
    assert not (folder / "experiments/011-x/scripts/staged.py").exists(), "it is not in the tree"
    assert jobs.finish(number)["JobState"] == "COMPLETED"


def test_pinning_eight_times_at_once_shares_one_folder(jobs, slurm):
    jobs.edit("conf/x_gh_000.yaml", "hours: 24", "hours: 48")
    command = ["bash", jobs.experiment / "scripts/submit.sh", "gh_x_000", "--", "--hold"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": jobs.environment}
    processes = [subprocess.Popen(command, **pipes) for _ in range(8)]
    numbers = []
    for process in processes:
        stdout, stderr = process.communicate()
        assert (process.returncode, stderr) == (0, "")
        numbers.append(stdout.split("job ")[1].split()[0])
    [folder] = (jobs.experiment / "slurm/code").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == [
        ".env",
        "experiments",
        "multirun",
        "outputs",
        "submitted.json",
        "torchcell",
    ]
    assert {slurm.job(number)["WorkDir"] for number in numbers} == {str(folder)}
    slurm("scancel", *numbers)


def test_pinned_code_can_be_on_scratch(jobs, slurm, tmp_path):
    (tmp_path / "scratch %").mkdir()
    (jobs.experiment / "slurm/code").symlink_to(tmp_path / "scratch %")
    number = jobs.hold("gh_x_000")
    assert slurm.job(number)["WorkDir"].startswith(str(tmp_path / "scratch %").split()[0])
    assert jobs.finish(number)["JobState"] == "COMPLETED"
    assert (jobs.experiment / "results/x_gh_000.csv").is_file()
    assert git(jobs.lab.path, "status", "--porcelain") == "?? experiments/011-x/results/x_gh_000.csv\n"
    other = Submitter(jobs.lab, slurm, "012-y", package="torchcell")
    (other.experiment / "slurm/code").symlink_to(tmp_path / "scratch %")
    commit(jobs.lab.path)
    slurm("scancel", jobs.hold("gh_x_000"))
    assert "is not a copy of this experiment. Do not share slurm/code between experiments." in other.refused("gh_x_000")


def test_full_disk_is_reported_in_one_line(jobs, slurm, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    if run("mount", "-t", "tmpfs", "-o", "size=64k", "none", small).returncode:
        pytest.skip("a small disk needs the right to mount one")
    try:
        (jobs.experiment / "slurm/code").symlink_to(small)
        before = state(jobs.lab.path)
        assert "No space left on device" in jobs.refused("gh_x_000")
        assert list(small.iterdir()) == [] and state(jobs.lab.path) == before
    finally:
        run("umount", small)


# Repositories ---------------------------------------------------------------------------------------------------------


def test_worktree_submits_its_own_files(jobs, slurm, tmp_path):
    worktree = tmp_path / "worktree"
    git(jobs.lab.path, "worktree", "add", "--quiet", worktree)
    script = worktree / "experiments/011-x/scripts/submit.sh"
    env = (jobs.lab.path / ".env").read_text()
    (worktree / ".env").write_text(env)
    assert f"does not contain {worktree}/experiments/011-x" in jobs.refused("gh_x_000", script=script)
    (worktree / ".env").write_text(env.replace(f"{jobs.lab.path}/experiments", f"{worktree}/experiments"))
    (worktree / "torchcell/timestamp.py").write_text("def timestamp():\n    return '1999-01-01-00-00-00'\n")
    [number] = submitted(jobs.submit("gh_x_000", script=script))
    assert slurm.wait(number)["JobState"] == "COMPLETED"
    log = worktree / f"experiments/011-x/slurm/output/011-x_gh_000_{number}.out"
    assert (worktree / "experiments/011-x/results/x_gh_000.csv").is_file()
    assert "figure: " in log.read_text() and "_1999-01-01" in log.read_text()


def test_partial_clone_does_not_need_its_remote(jobs, slurm, tmp_path):
    (jobs.lab.path / "big.txt").write_text("elsewhere\n")
    commit(jobs.lab.path)
    git(jobs.lab.path, "config", "uploadpack.allowFilter", "true")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", "--no-checkout", "--filter=blob:none", f"file://{jobs.lab.path}", clone)
    git(clone, "sparse-checkout", "set", "experiments", "torchcell")
    git(clone, "checkout", "--quiet", "main")
    (clone / "data").mkdir()
    (clone / ".env").write_text((jobs.lab.path / ".env").read_text().replace(str(jobs.lab.path), str(clone)))
    (clone / "images").mkdir()
    (clone / "home").symlink_to(jobs.lab.path / "home")
    shutil.move(jobs.lab.path / ".git", tmp_path / "remote")
    (clone / "experiments/011-x/conf/x_gh_000.yaml").open("a").write("more: 1\n")
    [number] = submitted(jobs.submit("gh_x_000", script=clone / "experiments/011-x/scripts/submit.sh"))
    assert slurm.wait(number)["JobState"] == "COMPLETED"
    [record] = [json.loads(path.read_text()) for path in (clone / "data").rglob("provenance.json")]
    changed = git(clone, "diff", "--name-only", "HEAD", record["commit"])
    assert changed == "experiments/011-x/conf/x_gh_000.yaml\n", "files outside the sparse checkout are not deleted"


def test_submodule_with_experiments_is_pinned(tmp_path, template, slurm):
    inner = make_lab(tmp_path / "inner", template)
    Submitter(inner, slurm)
    shutil.copytree(inner.path / "experiments", tmp_path / "experiments")
    git(tmp_path / "experiments", "init", "--quiet")
    commit(tmp_path / "experiments")
    lab = make_lab(tmp_path / "lab", template)
    shutil.rmtree(lab.path / "experiments")
    allowed = ("-c", "protocol.file.allow=always")
    git(lab.path, *allowed, "submodule", "--quiet", "add", tmp_path / "experiments", "experiments")
    commit(lab.path)
    jobs = Submitter.__new__(Submitter)
    jobs.__dict__ |= {"lab": lab, "slurm": slurm, "experiment": lab.path / "experiments/011-x"}
    jobs.logs, jobs.environment = jobs.experiment / "slurm/output", Submitter(inner, slurm, "012-y").environment
    number = jobs.hold("gh_x_000")
    folder, said = pinned_of(jobs, number)
    assert said["commit"] == git(lab.path / "experiments", "rev-parse", "HEAD").strip()
    assert (folder / "experiments/011-x/scripts/x.py").is_file()
    assert jobs.finish(number)["JobState"] == "COMPLETED"
    jobs.edit("scripts/submit.sh", "package= ", "package=torchcell ")
    assert "is in another repository, so it cannot be pinned. Use --live." in jobs.refused("gh_x_000")


def test_monorepo_below_a_repository_root_is_pinned(jobs, slurm, tmp_path):
    shutil.rmtree(jobs.lab.path / ".git")
    git(tmp_path, "init", "--quiet")
    (tmp_path / ".gitignore").write_text("/template\n")
    commit(tmp_path)
    jobs.edit("conf/x_gh_000.yaml", "hours: 24", "hours: 48")
    number = jobs.hold("gh_x_000")
    folder, said = pinned_of(jobs, number)
    assert said["dirty"] and (folder / "experiments/011-x/scripts/x.py").is_file()
    assert git(tmp_path, "diff", "--name-only", "HEAD", said["commit"]) == "lab/experiments/011-x/conf/x_gh_000.yaml\n"
    assert jobs.finish(number)["JobState"] == "COMPLETED"


def test_package_in_src_is_pinned_and_imported_first(jobs, slurm, tmp_path):
    """The pinned package also wins over an editable install of another copy."""
    (jobs.lab.path / "src").mkdir()
    shutil.move(jobs.lab.path / "torchcell", jobs.lab.path / "src/torchcell")
    commit(jobs.lab.path)
    stamp = "def timestamp():\n    return '{}-01-01-00-00-00'\n"
    (jobs.lab.path / "src/torchcell/timestamp.py").write_text(stamp.format(1997))
    other = tmp_path / "other/torchcell"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("")
    (other / "timestamp.py").write_text(stamp.format(1998))
    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", "--system-site-packages", "--without-pip", environment, check=True)
    [packages] = environment.glob("lib/python*/site-packages")
    [own] = [path for path in sys.path if path.endswith("site-packages")][:1]
    (packages / "editable.pth").write_text(f"{tmp_path}/other\n{own}\n")
    jobs.edit("scripts/gh_x_000.slurm", '"$HOME/miniconda3/envs/torchcell/bin/python"', f"{environment}/bin/python")
    number = jobs.hold("gh_x_000")
    (jobs.lab.path / "src/torchcell/timestamp.py").write_text(stamp.format(1999))
    job = jobs.finish(number)
    log = (jobs.logs / f"011-x_gh_000_{number}.out").read_text()
    assert job["JobState"] == "COMPLETED", log
    assert "figure: " in log and "_1997-01-01" in log


def test_unpinnable_code_is_refused_without_live(jobs, slurm):
    package = jobs.lab.path / "torchcell"
    shutil.move(package, jobs.lab.path / "elsewhere")
    assert f"the package torchcell is in neither {jobs.lab.path} nor {jobs.lab.path}/src" in jobs.refused("gh_x_000")
    package.symlink_to("elsewhere")
    assert f"the package {package} is a link, so it cannot be pinned. Use --live." in jobs.refused("gh_x_000")
    slurm("scancel", *submitted(jobs.submit("--live", "gh_x_000", "--", "--hold")))
    package.unlink()
    shutil.move(jobs.lab.path / "elsewhere", package)
    git(package, "init", "--quiet")
    commit(package)
    assert f"the package {package} is in another repository" in jobs.refused("gh_x_000")
    shutil.rmtree(package / ".git")
    git(jobs.experiment / "conf", "init", "--quiet", "inner")
    commit(jobs.experiment / "conf/inner")
    assert "conf/inner/ is another repository" in jobs.refused("gh_x_000").replace("inner is", "inner/ is")
    shutil.rmtree(jobs.experiment / "conf/inner")
    (jobs.experiment / "big.bin").write_bytes(bytes(51_000_000))
    assert "51 MB of files are untracked, such as" in jobs.refused("gh_x_000")
    (jobs.experiment / "big.bin").unlink()
    (jobs.lab.path / ".gitignore").open("a").write("*.slurm\n")
    git(jobs.lab.path, "rm", "--quiet", "--cached", "experiments/011-x/scripts/gh_x_000.slurm")
    commit(jobs.lab.path)
    assert "gh_x_000: git ignores it, so it cannot be pinned. Use --live." in jobs.refused("gh_x_000")


def test_ignored_modules_and_outside_links_are_reported(jobs, slurm):
    (jobs.lab.path / ".gitignore").open("a").write("secret.py\n*.so\n")
    (jobs.lab.path / "torchcell/secret.py").write_text("")
    (jobs.experiment / "scripts/fast.so").write_text("")
    (jobs.experiment / "scripts/link.py").symlink_to("../../../README.md")
    (jobs.lab.path / "README.md").write_text("")
    done = jobs.submit("gh_x_000", "--", "--hold")
    slurm("scancel", *submitted(done))
    assert done.stderr == (
        "submit.sh: not submitted, because git ignores it: experiments/011-x/scripts/fast.so torchcell/secret.py\n"
        "submit.sh: not submitted, because it is a symlink to an unpinned file: experiments/011-x/scripts/link.py\n"
    )


def test_pinned_code_cannot_submit(jobs, slurm):
    number = jobs.hold("gh_x_000")
    script = pinned_of(jobs, number)[0] / "experiments/011-x/scripts/submit.sh"
    assert "this is a pinned copy. Submit from the experiment itself." in jobs.refused("gh_x_000", script=script)
    slurm("scancel", number)


def test_prune_removes_only_unused_code(jobs, slurm):
    first = jobs.hold("gh_x_000")
    jobs.edit("conf/x_gh_000.yaml", "hours: 24", "hours: 48")
    second = jobs.hold("gh_x_000")
    code = jobs.experiment / "slurm/code"
    (code / "mine").mkdir()
    one, two = (pinned_of(jobs, number)[0] for number in (first, second))
    assert jobs.submit("--prune").stdout == ""
    jobs.finish(first)
    done = jobs.submit("--prune", cwd="/")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"removed {one}\n", "")
    assert sorted(path.name for path in code.iterdir()) == sorted([two.name, "mine"])
    assert git(jobs.lab.path, "rev-parse", f"refs/submitted/{one.name}").strip() == one.name
    assert jobs.finish(second)["JobState"] == "COMPLETED"
    file = jobs.lab.path / "home/bin/squeue"
    file.write_text("#!/bin/bash\necho 'squeue: error: no contact' >&2\nexit 1\n")
    file.chmod(0o755)
    assert "squeue failed, so no more copies are removed" in jobs.refused("--prune") and two.exists()


def test_pinned_code_has_no_secrets(jobs):
    for folder in (jobs.experiment, jobs.experiment / "conf", jobs.lab.path / "torchcell"):
        (folder / ".env").write_text((jobs.lab.path / ".env").read_text())
    number = jobs.hold("gh_x_000")
    names = git(jobs.lab.path, "ls-tree", "-r", "--name-only", jobs.receipt(number)["commit"])
    assert "scripts/x.py" in names and ".env" not in names
    jobs.slurm("scancel", number)


def test_git_trace_output_does_not_change_the_commit(jobs):
    """GIT_TRACE prints to stderr, like git's warnings do."""
    head = git(jobs.lab.path, "rev-parse", "HEAD").strip()
    for options in ([], ["--live"]):
        [number] = submitted(jobs.submit("gh_x_000", *options, "--", "--hold", env={"GIT_TRACE": "1"}))
        assert jobs.receipt(number)["commit"] == head
        jobs.slurm("scancel", number)


def test_sparse_checkout_counts_as_unchanged(jobs, tmp_path):
    """The clone lacks the objects of the excluded files and cannot fetch them."""
    (jobs.experiment / "queries").mkdir(exist_ok=True)
    (jobs.experiment / "queries/big.txt").write_text("not needed\n")
    commit(jobs.lab.path)
    git(jobs.lab.path, "config", "uploadpack.allowFilter", "true")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", "--filter=blob:none", "--no-checkout", f"file://{jobs.lab.path}", clone)
    git(clone, "sparse-checkout", "set", "--no-cone", "/*", "!/experiments/011-x/queries/")
    git(clone, "checkout", "--quiet", "main")
    git(clone, "config", "remote.origin.url", f"file://{tmp_path}/nowhere")
    root = str(jobs.lab.path)
    (clone / ".env").write_text(
        (jobs.lab.path / ".env").read_text().replace(f"{root}/experiments", f"{clone}/experiments")
    )
    script = clone / "experiments/011-x/scripts/submit.sh"
    [number] = submitted(jobs.submit("gh_x_000", "--", "--hold", script=script, cwd=clone))
    head = git(clone, "rev-parse", "HEAD").strip()
    assert Path(jobs.slurm.job(number)["WorkDir"]).name == head
    pinned = clone / "experiments/011-x/slurm/code" / head / "experiments/011-x"
    assert (pinned / "scripts/x.py").is_file() and not (pinned / "queries").exists()
    jobs.slurm("scancel", number)
    (clone / "experiments/011-x/conf/default.yaml").write_text("title: other\n")
    [number] = submitted(jobs.submit("gh_x_000", "--", "--hold", script=script, cwd=clone))
    changed = git(clone, "diff", "--name-only", head, Path(jobs.slurm.job(number)["WorkDir"]).name)
    assert changed == "experiments/011-x/conf/default.yaml\n"
    jobs.slurm("scancel", number)
