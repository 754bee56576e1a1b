"""Hostile input: a malicious repository or template runs no command and hangs no process."""

import os
import re
import shutil
import signal
import socket
import stat
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml
from support.process import commit, edit, git, run
from support.updating import by_tool, contents, is_new, skipped, tool, typed

from experiments.errors import Problem
from experiments.git import isolated
from experiments.template import Release, Template, clone_url, render, time_limit


@pytest.mark.parametrize(
    "source",
    ["--upload-pack=touch hacked", "ext::sh -c touch% hacked", "git+ext::sh -c true", "-c", "fd::3", 7, "", "a\nb"],
)
def test_source_that_runs_commands_is_refused(source):
    with pytest.raises(Problem, match="template's source is"):
        clone_url(source)


@pytest.mark.parametrize(
    ("source", "url"),
    [
        ("gh:lab/t", "https://github.com/lab/t.git"),
        ("gh:/lab/t.git", "https://github.com/lab/t.git"),
        ("gl:lab/t", "https://gitlab.com/lab/t.git"),
        ("git+https://lab.org/t", "https://lab.org/t"),
        ("https://github.com/lab/t", "https://github.com/lab/t.git"),
        ("git@lab.org:t.git", "git@lab.org:t.git"),
        ("~/t", os.path.expanduser("~/t")),
    ],
)
def test_source_resolves_to_the_url_copier_uses(source, url):
    assert clone_url(source) == url


def test_source_that_is_hostile_skips_its_experiment(old, experiment):
    answers = experiment / ".copier-answers.yml"
    for source in ("--upload-pack=touch hacked", "ext::sh -c touch% hacked"):
        values = yaml.safe_load(answers.read_text()) | {"_src_path": source}
        answers.write_text(yaml.safe_dump(values))
        commit(old.path)
        assert skipped(by_tool(old), experiment, "is not a valid address")
        assert "is not a valid address" in tool(old, "check").stdout
    assert not (old.path / "hacked").exists()


def test_source_with_git_prefix_is_accepted(old, experiment):
    answers = experiment / ".copier-answers.yml"
    source = f"_src_path: git+file://{old.template.path}\n"
    edit(answers, f"_src_path: {old.template.path}\n", source)
    commit(old.path)
    assert tool(old, "add-run", "experiments/011-x", "x", "gh_002").returncode == 0
    commit(old.path)
    assert by_tool(old).returncode == 0
    assert is_new(experiment) and source in answers.read_text()


def test_source_follows_the_users_insteadof(old, experiment, tmp_path, monkeypatch):
    answers = experiment / ".copier-answers.yml"
    edit(answers, str(old.template.path), "gh:lab/t")
    commit(old.path)
    config = f'[url "file://{old.template.path}"]\ninsteadOf = https://github.com/lab/t.git\n'
    with open(os.environ["GIT_CONFIG_GLOBAL"]) as file:
        (tmp_path / "gitconfig").write_text(file.read() + config)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    done = by_tool(old)
    assert done.returncode == 0, done.stdout
    assert "_src_path: gh:lab/t\n" in answers.read_text()


ANSWERS = {
    "experiment": "011-x",
    "title": "X",
    "runs": {"x": ["gh_000"]},
    "package": "",
    "repository": "",
    "user_email": "",
    "queries": False,
}


def test_render_with_a_git_folder_is_refused(plain_template, tmp_path):
    source = shutil.copytree(plain_template.path, tmp_path / "template")
    folder = source / "template/{{ '.g' ~ 'it' }}"
    folder.mkdir()
    (folder / "config").write_text("[core]\nfsmonitor = touch hacked\n")
    assert "scripts/submit.sh" in render(plain_template.path, "v1.0.0", ANSWERS)
    with pytest.raises(Problem, match="reserved for git"):
        render(source, "v1.0.0", ANSWERS)


ENDLESS = "{% for _ in range(99999) %}{% for _ in range(99999) %}{% endfor %}{% endfor %}"


def test_render_that_never_ends_times_out(plain_template, tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.template.SECONDS", 2)
    source = shutil.copytree(plain_template.path, tmp_path / "template")
    (source / "template/endless.md.jinja").write_text(ENDLESS)
    with pytest.raises(Problem, match=r"v1\.0\.0: it took more than 2 s"):
        render(source, "v1.0.0", ANSWERS)
    rules = source / "rules/runs.jinja"
    rules.write_text(rules.read_text() + ENDLESS)
    with pytest.raises(Problem, match="cannot read runs: it took more than 2 s"):
        Release("v1.0.0", "", source).parse_runs(ANSWERS, ANSWERS["runs"])
    settings = source / "copier.yml"
    settings.write_text(settings.read_text().replace("_exclude:\n", f'_exclude:\n  - "{ENDLESS}"\n', 1))
    with pytest.raises(Problem, match="it took more than 2 s"):
        Release("v1.0.0", "", source).user_owned(ANSWERS)
    with time_limit():
        pass
    assert signal.alarm(0) == 0 and signal.getsignal(signal.SIGALRM) == signal.SIG_DFL


def test_release_with_a_git_folder_is_skipped(own_old):
    folder = own_old.template.path / "template/{{ '.G' ~ 'it' }}"  # equals .git on a Mac
    folder.mkdir()
    (folder / "config").write_text(f"[core]\nfsmonitor = touch {own_old.path}/hacked\n")
    own_old.template.release("v1.2.0")
    before = contents(own_old.path)
    for option in ("--dry-run", "--commit"):
        done = tool(own_old, "update", option)
        assert skipped(
            done, own_old.path / "experiments/011-x", "v1.2.0 of its template renders .Git, which is reserved for git"
        )
    assert contents(own_old.path) == before and git(own_old.path, "status", "--porcelain") == ""


BAD_ANSWERS = ["7 # experiment:\n", "experiment: {}\n", "experiment: <<<<<<<\n", "_commit: '[/x]'\nexperiment: 1\n"]


def test_malformed_answers_skip_only_their_experiment(old, experiment):
    before = contents(experiment)
    for number, text in enumerate(BAD_ANSWERS):
        other = experiment.with_name(f"10{number}-x")
        other.mkdir()
        (other / ".copier-answers.yml").write_text(text)
    commit(old.path)
    done = by_tool(old)
    assert done.returncode == 3 and done.stderr == ""
    rows = done.stdout.splitlines()[1:]
    assert len(rows) == 5 and rows[0].rstrip().endswith(" updated")
    assert all("is not an answers file of this template" in row for row in rows[1:])
    assert contents(experiment) != before


def test_malformed_yaml_tags_are_refused(old, experiment):
    """Use another process, because a pytest plugin adds a tag to yaml that reads files."""
    for number, value in enumerate(("!include /etc/hostname", "!!python/object/apply:os.system ['touch hacked']")):
        other = experiment.with_name(f"10{number}-x")
        shutil.copytree(experiment, other)
        edit(other / ".copier-answers.yml", "experiment: 011-x", f"experiment: {value}")
    commit(old.path)
    done = typed(old, "update", "--dry-run")
    assert done.returncode == 3 and done.stderr == ""
    assert [row.split()[0] for row in done.stdout.splitlines() if "is not an answers file of this template" in row] == [
        "experiments/100-x",
        "experiments/101-x",
    ]
    assert not (old.path / "hacked").exists()


def test_markup_in_a_version_is_printed_as_text(old, experiment):
    answers = experiment / ".copier-answers.yml"
    answers.write_text(re.sub("_commit: .*\n_commit_id: .*", "_commit: '[/x]'", answers.read_text()))
    commit(old.path)
    assert skipped(by_tool(old), experiment, "its template has no [/x]")


def test_check_does_not_hang_on_fifos_or_long_lines(old, experiment):
    os.mkfifo(experiment / "scripts/fifo.slurm")
    os.mkfifo(experiment / "conf/fifo.yaml")
    assert stat.S_ISFIFO((experiment / "conf/fifo.yaml").stat().st_mode)
    experiment.with_name("099-z").mkdir()
    os.mkfifo(experiment.with_name("099-z") / ".copier-answers.yml")
    (experiment / "scripts/gh_x_000.slurm").write_text("/home/" * 40_000 + "\n" + "/images/" * 1000 + "\n")
    done = tool(old, "check")
    assert "scripts/gh_x_000.slurm: has a path of one machine: /home//home/" in done.stdout


def test_git_filters_and_hooks_do_not_run(own_old, tmp_path, monkeypatch):
    old = own_old
    (old.template.path / ".gitattributes").write_text("* filter=odd\n")
    old.template.release("v1.2.0")
    config = Path(os.environ["GIT_CONFIG_GLOBAL"]).read_text()
    (tmp_path / "gitconfig").write_text(f'{config}[filter "odd"]\nsmudge = touch {tmp_path}/filter; cat\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    (old.path / ".git/hooks").mkdir(exist_ok=True)
    (old.path / ".git/hooks/post-checkout").write_text(f"#!/bin/sh\ntouch {tmp_path}/hook\n")
    (old.path / ".git/hooks/post-checkout").chmod(0o755)
    git(old.path, "config", "core.fsmonitor", f"touch {tmp_path}/fsmonitor")
    assert by_tool(old).returncode == 0
    assert not [name for name in ("hook", "fsmonitor", "filter") if (tmp_path / name).exists()]


def test_git_ignores_the_users_settings(tmp_path, monkeypatch):
    for number, (name, file) in enumerate({"HOME": ".gitconfig", "XDG_CONFIG_HOME": "git/config"}.items()):
        path = tmp_path / name / file
        path.parent.mkdir(parents=True)
        path.write_text(f"[filter]\nnumber = {number}\n")
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "HOME/.gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "filter.number")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "3")
    assert "filter.number" in run("git", "config", "--list", cwd=tmp_path).stdout
    done = run("git", "config", "--list", cwd=tmp_path, env=isolated())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_git_transport_helpers_do_not_run(tmp_path, monkeypatch):
    helper = tmp_path / "git-remote-odd"
    helper.write_text(f"#!/bin/sh\ntouch {tmp_path}/hacked\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(Problem, match="cannot be fetched: transport 'odd' not allowed"):
        Template.fetch("odd://t", tmp_path)
    assert not (tmp_path / "hacked").exists()


class AsksForAPassword(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(401)
        self.send_header("WWW-Authenticate", "Basic")
        self.end_headers()

    def log_message(self, *words):
        pass


def test_server_asking_for_a_password_is_refused(tmp_path):
    with HTTPServer(("127.0.0.1", 0), AsksForAPassword) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(Problem, match="terminal prompts disabled"):
            Template.fetch(f"http://127.0.0.1:{server.server_port}/t", tmp_path)
        server.shutdown()


def test_server_that_is_silent_times_out(tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.git.SECONDS", 1)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        with pytest.raises(Problem, match="cannot be fetched: git clone took more than 1 s"):
            Template.fetch(f"git://127.0.0.1:{server.getsockname()[1]}/t", tmp_path)
