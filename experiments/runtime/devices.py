"""The host devices of a program: one a core, where the backend is a CPU."""

import os

import jax

from experiments.runtime.errors import ConfigError


def use_all_cores() -> None:
    """Ask for one host device a core, where the backend is a CPU.

    Must come before the first use of JAX; a number the user chose with ``XLA_FLAGS`` or
    ``JAX_NUM_CPU_DEVICES`` stands.
    """
    flag = "xla_force_host_platform_device_count"
    if flag in os.environ.get("XLA_FLAGS", "") or "JAX_NUM_CPU_DEVICES" in os.environ:
        return
    jax.config.update("jax_num_cpu_devices", num_cores())


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
