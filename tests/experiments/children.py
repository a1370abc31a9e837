"""Processes that run a program: the same compiled programs, and no page of imports."""

import json
import os

import jax


def child_environment():
    return os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }


SERVER = """
import json, os, runpy, sys, traceback
import sklearn.datasets
from experiments import deferral
from experiments.figures import images
from experiments.runtime import cli
print(flush=True)
for line in sys.stdin:
    module, argv, err = json.loads(line)
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        os.dup2(os.open(err, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        sys.argv, status = [module, *argv], 0
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            status = end.code or 0
        except BaseException:
            traceback.print_exc()
            status = 1
        sys.stderr.flush()
        os._exit(status)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Server:
    """A process that has imported everything and forks for every command line."""

    def __init__(self, process):
        self._process = process
        self._read()

    def _read(self):
        return self._process.stdout.readline().strip()

    def start(self, module, args, err):
        """The process that runs the program; its standard error goes to a file."""
        self._process.stdin.write(json.dumps([module, args, str(err)]) + "\n")
        self._process.stdin.flush()
        return int(self._read())

    def wait(self):
        """Its exit status."""
        return int(self._read())
