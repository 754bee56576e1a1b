"""Signals: the first one ends a run, later ones wait until its work is saved. Every process handles them."""

import json
import os
import pty
import signal
import subprocess
import sys
import time

import pytest
from support.process import run, wait_until

# The body of a run that saves slowly when it ends. The file `saved` is missing if that was interrupted.
SAVES = """\
data = os.environ["DATA_ROOT"]
try:
    open(f"{data}/ready", "w").close()
    BODY
finally:
    time.sleep(SECONDS)
    open(f"{data}/saved", "w").close()"""
JOB = {"EXPERIMENT_JOB": "687", "EXPERIMENT_MODE": "one", "SLURM_JOB_ID": "687"}
RANK = {"RANK": "1", "TORCHELASTIC_RUN_ID": "4a1e"}


@pytest.fixture
def start(lab):
    """Start a script that saves at its end in its own process group, and wait until it works."""
    lab.render()
    started = []

    def begin(body="time.sleep(60)", env=None, overrides=(), seconds=1, **options):
        body = SAVES.replace("SECONDS", str(seconds)).replace("BODY", body.replace("\n", "\n    "))
        script = lab.write_light(body)
        command = [sys.executable, script, *overrides]
        env = os.environ | (env or {})
        options = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE} | options
        process = subprocess.Popen(command, cwd=lab.path, env=env, text=True, start_new_session=True, **options)
        started.append(process)
        wait_until((lab.data / "ready").exists, state=process.poll)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def record(lab):
    [path] = lab.data.rglob("provenance.json")
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    ("env", "numbers"),
    [
        (JOB, [signal.SIGTERM, signal.SIGTERM]),
        (JOB, [signal.SIGINT, signal.SIGINT]),
        ({}, [signal.SIGTERM, signal.SIGHUP, signal.SIGTERM]),
        ({}, [signal.SIGINT, signal.SIGHUP]),  # Ctrl-C, then a closed terminal
    ],
)
def test_later_signals_wait_until_the_run_saved(lab, start, env, numbers):
    process = start(env=env)
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.1)
    _, errors = process.communicate(timeout=60)
    assert (lab.data / "saved").exists(), errors
    found = record(lab)
    assert (found["status"], found["error"]) == ("terminated", signal.Signals(numbers[0]).name)
    fatal = [number for number in numbers if number != signal.SIGINT]
    assert process.returncode == -(fatal or [signal.SIGINT])[0]


def test_second_ctrl_c_ends_a_hanging_finally(lab, start):
    process = start(seconds=60)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    process.communicate(timeout=30)
    assert not (lab.data / "saved").exists()
    assert (record(lab)["status"], record(lab)["error"]) == ("terminated", "SIGINT")


def test_rank_handles_its_signals(lab, start):
    process = start(env=RANK)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (-signal.SIGTERM, "")
    assert (lab.data / "saved").exists() and list(lab.data.rglob("provenance.json")) == []


WORKERS = """\
import multiprocessing
print("printed once")
workers = []
for method in ("fork", "spawn"):
    # Python's signal handlers do not run during a long call of C.
    workers.append(multiprocessing.get_context(method).Process(target=sum, args=(range(10**11),)))
    workers[-1].start()
time.sleep(2)
try:
    open(f"{data}/started", "w").close()
    time.sleep(60)
finally:
    for worker in workers:
        worker.join()
    print([worker.exitcode for worker in workers])"""


def test_data_loader_workers_end_with_the_signal(lab, start):
    """Slurm signals all processes of a job. A forked worker must not print the buffer of its run again."""
    process = start(WORKERS)
    wait_until((lab.data / "started").exists, state=process.poll)
    for _ in range(2):
        os.killpg(process.pid, signal.SIGTERM)
        time.sleep(0.1)
    output, errors = process.communicate(timeout=60)
    assert output == "printed once\n[-15, -15]\n", errors
    assert process.returncode == -signal.SIGTERM and record(lab)["status"] == "terminated"


def test_daemonic_processes_end_with_their_run(lab, start):
    daemon = (
        "import multiprocessing\n"
        "worker = multiprocessing.get_context('fork').Process(target=time.sleep, args=(60,), daemon=True)\n"
        "worker.start()\nopen(f'{data}/worker', 'w').write(str(worker.pid))\ntime.sleep(60)"
    )
    process = start(daemon)
    wait_until(lambda: (lab.data / "worker").exists() and (lab.data / "worker").read_text())
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == -signal.SIGTERM
    worker = (lab.data / "worker").read_text()
    wait_until(lambda: run("ps", "-o", "stat=", "-p", worker).stdout.strip() in ("", "Z", "Zs"))


def test_signal_does_not_wait_for_wandb(lab, start):
    process = start("while True:\n    run.log(a=1)\n    time.sleep(0.1)", overrides=["wandb.mode=offline"])
    [core] = [line.split()[0] for line in children(process.pid) if "wandb-core" in line]
    for number in (process.pid, int(core), process.pid):
        os.kill(number, signal.SIGTERM)
        time.sleep(0.1)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM and (lab.data / "saved").exists()
    assert record(lab)["error"] == "SIGTERM"


def children(number):
    return run("ps", "-o", "pid=,args=", "--ppid", number).stdout.splitlines()


def test_signal_of_a_closed_terminal_is_recorded(lab, start):
    master, terminal = pty.openpty()
    process = start(stdout=terminal, stderr=terminal)
    os.close(terminal)
    os.close(master)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == -signal.SIGHUP
    assert record(lab)["error"] == "SIGHUP" and (lab.data / "saved").exists()


def test_signal_before_the_run_leaves_the_folder_reusable(lab):
    lab.render()
    script = lab.write_light()
    text = script.read_text()
    script.write_text(text.replace("    with Run", "    open('ready', 'w').close()\n    time.sleep(60)\n    with Run"))
    process = subprocess.Popen([sys.executable, script], cwd=lab.path, env=os.environ | JOB)
    wait_until(lambda: list(lab.data.rglob("ready")))
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == -signal.SIGTERM
    script.write_text(text)
    done = lab.start(script="light", env=JOB | {"SLURM_RESTART_COUNT": "1"})
    assert done.returncode == 0, done.stderr
    assert record(lab)["status"] == "finished"


def test_signal_after_a_caught_one_does_not_interrupt(lab, start):
    """The script caught the first signal. The second one must not interrupt its next step."""
    process = start("try:\n    time.sleep(60)\nexcept BaseException:\n    print('caught', flush=True)\ntime.sleep(1)")
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "caught\n"
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == -signal.SIGTERM
    assert (record(lab)["status"], record(lab)["error"]) == ("terminated", "SIGTERM")
    assert (lab.data / "saved").exists()
