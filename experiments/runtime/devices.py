"""The host devices of a program: one a core, where the backend is a CPU."""

import os
import re
import subprocess
import sys

import jax

from experiments.runtime.errors import ConfigError
from l2d_jax.data import folder as data_folder
from l2d_jax.engine import compiled


def use_all_cores() -> None:
    """Ask for one host device a core, where the backend is a CPU.

    Must come before the first use of JAX; a number the user chose with ``XLA_FLAGS`` or
    ``JAX_NUM_CPU_DEVICES`` stands.
    """
    flag = "xla_force_host_platform_device_count"
    if flag in os.environ.get("XLA_FLAGS", "") or "JAX_NUM_CPU_DEVICES" in os.environ:
        return
    jax.config.update("jax_num_cpu_devices", num_cores())


def check_flags() -> None:
    """See that XLA knows its flags: it ends a process with pages of text otherwise.

    Must come before the first use of JAX.

    Raises:
      ConfigError: it does not.
    """
    given = os.environ.get("XLA_FLAGS")
    if not given:
        return
    # So it can be asked only by a process that may be lost; without JAX itself, which
    # takes longer to import.
    ask = "from jaxlib import xla_client; xla_client.CompileOptions()"
    asked = subprocess.run(
        [sys.executable, "-c", ask],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    said = re.search(r"^[EF]\d{4} .*?\] (.*)", asked.stderr, re.MULTILINE)
    if asked.returncode and said is not None:
        raise ConfigError(
            f"XLA_FLAGS={given}: {said[1]}; mend that variable of the environment, or"
            " unset it"
        )


def keep_programs(folder: str) -> None:
    """Keep compiled programs for the next start, where that can be done.

    Args:
      folder: ``off`` keeps none, and ``auto`` is a folder of the user's cache.
    """
    if folder == "auto":
        compiled.keep(data_folder.user_cache_dir() / "compiled")
    elif folder != "off":
        compiled.keep(data_folder.expand(folder).absolute())


def find() -> None:
    """See that there is a device to compute on.

    Raises:
      ConfigError: JAX finds none.
    """
    try:
        jax.devices()
    except RuntimeError as error:
        said = (str(error).splitlines() or [""])[0]
        chosen = os.environ.get("JAX_PLATFORMS")
        raise ConfigError(
            f"JAX_PLATFORMS={chosen}: {said}"
            if chosen
            else f"JAX finds no device: {said}"
        ) from error


def num_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))
