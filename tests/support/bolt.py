"""A real Bolt server."""

import contextlib
import socket
import subprocess
import sys
import threading

import neo4j
from support.process import free_port, wait_until

BOLT = """\
import os, sys
import arcadedb_embedded as arcadedb
root, http, bolt, password = sys.argv[1:]
os.chdir(root)
plugin = "Bolt:com.arcadedb.bolt.BoltProtocolPlugin"
settings = {"http_port": int(http), "bolt_port": int(bolt), "server_plugins": plugin}
server = arcadedb.create_server(os.path.join(root, "server"), password, settings)
server.start()
server.create_database("neo4j")
print("ready", flush=True)
sys.stdin.read()
"""


class Bolt:
    """A real Bolt server with authentication, in its own process."""

    user, password, database = "root", "correct-horse-battery", "neo4j"

    def __init__(self, folder):
        port = free_port()
        self.uri = f"bolt://127.0.0.1:{port}"
        self.log = (folder / "log.txt").open("w+")
        command = [sys.executable, "-c", BOLT, folder, free_port(), port, self.password]
        self.process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=self.log, stderr=subprocess.STDOUT
        )
        wait_until(lambda: "ready" in (folder / "log.txt").read_text(), state=(folder / "log.txt").read_text)
        self.environment = {
            "NEO4J_URI": self.uri,
            "NEO4J_USERNAME": self.user,
            "NEO4J_PASSWORD": self.password,
            "NEO4J_DATABASE": self.database,
        }

    def __call__(self, query, **parameters):
        """Run a query, commit it, and return its rows."""
        with (
            neo4j.GraphDatabase.driver(self.uri, auth=(self.user, self.password)) as driver,
            driver.session(database=self.database) as session,
        ):
            return session.run(query, parameters).data()

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


class BreakableProxy:
    """A TCP proxy to a server. `cut` breaks all connections."""

    def __init__(self, uri):
        self.server = uri.removeprefix("bolt://").split(":")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.uri = f"bolt://127.0.0.1:{self.listener.getsockname()[1]}"
        self.ends = []

    def __enter__(self):
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.cut()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                here = self.listener.accept()[0]
                there = socket.create_connection(self.server)
                self.ends += [here, there]
                for pair in ((here, there), (there, here)):
                    threading.Thread(target=self.pass_on, args=pair, daemon=True).start()

    def pass_on(self, source, destination):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                destination.sendall(data)

    def cut(self):
        for end in (self.listener, *self.ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
