"""The controller of a real Slurm without live nodes. It accepts or refuses jobs for any lab's machines."""

import contextlib
import os
import pwd
import re
import socket
import subprocess

from support.process import free_port, run, wait_until


def values(machines, *names):
    """Return what machines request by these sbatch options."""
    requests = [machine.get("sbatch") or {} for machine in machines.values()]
    return sorted({str(request[name]) for request in requests for name in names if request.get(name)})


class Queue:
    """A slurmctld with every partition, feature, GPU, reservation and host that the machines request."""

    def __init__(self, folder, machines):
        host = socket.gethostname().split(".")[0]
        user = pwd.getpwuid(os.getuid()).pw_name
        (folder / "state").mkdir(parents=True)
        features = sorted(set(re.findall(r"[A-Za-z]\w*", " ".join(values(machines, "constraint", "prefer")))))
        asked = " ".join(values(machines, "gres", "gpus", "gpus-per-node", "gpus-per-task", "gpus-per-socket"))
        kinds = sorted(set(re.findall(r"\b([A-Za-z]\w*)(?::|$|,| )", asked)) | {"gpu"})
        types = sorted(set(re.findall(r"(?:gpu:|\b)([A-Za-z]\w*):\d", asked)) - {"gpu"})
        gres = ",".join([*(f"gpu:{kind}:64" for kind in types), *([] if types else ["gpu:64"])])
        nodes = ["node[1-64]", *values(machines, "exclude", "nodelist")]
        settings = {
            "ClusterName": "lab",
            "SlurmctldHost": f"{host}(127.0.0.1)",
            "SlurmUser": user,
            "AuthType": "auth/none",
            "CredType": "cred/none",
            "SlurmctldPort": free_port(),
            "SlurmdPort": free_port(),
            "StateSaveLocation": folder / "state",
            "SlurmctldPidFile": folder / "slurmctld.pid",
            "SlurmctldLogFile": folder / "slurmctld.log",
            "MailProg": "/bin/true",
            "MpiDefault": "none",
            "ProctrackType": "proctrack/linuxproc",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_Core_Memory",
            "GresTypes": ",".join(sorted({*kinds} - {*types})),
        }
        lines = [f"{name}={value}" for name, value in settings.items()]
        hardware = f"CPUs=512 RealMemory=8000000 Gres={gres} State=UNKNOWN"
        lines += [
            f"NodeName={name} NodeAddr=127.0.0.1 {hardware} Feature={','.join(features) or 'none'}" for name in nodes
        ]
        lines += [f"PartitionName={name} Nodes=ALL State=UP" for name in values(machines, "partition")]
        lines += ["PartitionName=any Nodes=ALL State=UP Default=YES"]
        (folder / "slurm.conf").write_text("\n".join(lines) + "\n")
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
        self.daemon = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", "slurmctld", "-D", "-c", "-i"],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: "is UP" in self("scontrol", "ping").stdout, state=(folder / "slurmctld.log").read_text)
        for name in values(machines, "reservation"):
            made = self(
                *(
                    "scontrol",
                    "create",
                    "reservation",
                    f"ReservationName={name}",
                    "StartTime=now",
                    "Duration=UNLIMITED",
                ),
                *(f"Users={user}", "Nodes=node[1-64]", "Flags=IGNORE_JOBS"),
            )
            assert made.returncode == 0, made.stderr

    def __call__(self, *command, **kwargs):
        return run(*command, env=self.environment, **kwargs)

    def stop(self):
        with contextlib.suppress(ProcessLookupError):
            self.daemon.terminate()
        self.daemon.wait(60)
