"""Processes of Python that need not import torch and MONAI: each is forked from one that has done nothing else.

A server imports for five seconds before it does anything, and so does a training; the tests start dozens of them. What
is imported beforehand is other people's: the library, the adaptor and MONAI Label, which looks at its environment while
it is imported, are imported by every process itself. `python warm.py PACKAGE...` is the one that forks, told by lines
of JSON what to start and whom to look after.
"""

import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

PACKAGES = ["torch", "monai", "monai.engines", "ignite.handlers", "torch.utils.tensorboard", "fastapi", "pydicom.sr"]


class Starter:
    """Starts processes that have imported PACKAGES."""

    def __init__(self):
        # One thread: what others might hold at the moment of forking, nobody would ever let go of.
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, __file__, *PACKAGES],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment,
        )  # fmt: skip

    def ask(self, **asked):
        self._process.stdin.write(json.dumps(asked) + "\n")
        return json.loads(self._process.stdout.readline())

    def start(self, arguments, environment, folder, output, errors=None):
        """`python ARGUMENTS` (-m MODULE ..., or a script) in a folder. output, errors: files, or one for both."""
        files = [str(output), str(errors or output)]
        arguments = [str(argument) for argument in arguments]
        asked = {"arguments": arguments, "environment": dict(environment), "folder": str(folder), "files": files}
        return Process(self, self.ask(**asked))

    def run(self, arguments, environment, folder, output, errors=None):
        """As `start`, until it has ended well: what it has written to `output`."""
        process = self.start(arguments, environment, folder, output, errors)
        assert process.wait() == 0, Path(errors or output).read_text()
        return Path(output).read_text()

    def close(self):
        self._process.stdin.close()
        self._process.wait()


class Process:
    """What `subprocess.Popen` offers of a process that is started thus."""

    def __init__(self, starter, pid):
        self.pid, self.returncode, self._starter = pid, None, starter

    def poll(self):
        if self.returncode is None:
            self.returncode = self._starter.ask(pid=self.pid)
        return self.returncode

    def wait(self, timeout=None):
        end = time.monotonic() + (timeout or float("inf"))
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.05)
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)


def serve():
    """Fork and look after what has been forked, until nobody asks any more; a fork returns what it is to do."""
    alive = set()
    for line in sys.stdin:
        asked = json.loads(line)
        if "pid" in asked:
            pid, status = os.waitpid(asked["pid"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
            alive.discard(pid)
        else:
            answer = os.fork()
            if answer == 0:
                return asked
            alive.add(answer)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    for pid in alive:  # of tests that were broken off
        os.kill(pid, signal.SIGTERM)
    return None


def become(arguments, environment, folder, files):
    """Be the process that `python ARGUMENTS` would have been, one that Ctrl-C interrupts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), number)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    module, *rest = arguments[1:] if arguments[0] == "-m" else arguments
    start = folder if arguments[0] == "-m" else str(Path(module).parent)
    sys.path[0:1] = [start, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = [module, *rest]
    if arguments[0] == "-m":
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(module, run_name="__main__")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever ends the tests closes its input
    for package in sys.argv[1:]:
        importlib.import_module(package)
    if asked := serve():
        become(**asked)
