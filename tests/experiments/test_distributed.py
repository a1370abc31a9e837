"""Processes of one program: each has a number of its own."""

import os
import socket
import sys

import pytest

from experiments.runtime import distributed
from experiments.runtime.errors import ConfigError

COORDINATOR = f"localhost:of-test-{os.getpid()}"


@pytest.mark.skipif(sys.platform != "linux", reason="names of sockets are Linux's")
def test_a_number_is_that_of_one_process():
    distributed._take_number(COORDINATOR, 0)
    distributed._take_number(COORDINATOR, 1)
    with pytest.raises(
        ConfigError, match=r"^process_id 1 of the program at .* is another"
    ):
        distributed._take_number(COORDINATOR, 1, seconds=0.0)
    # Of another program they are free.
    distributed._take_number(f"{COORDINATOR}0", 1)


@pytest.mark.skipif(sys.platform != "linux", reason="names of sockets are Linux's")
def test_a_process_that_is_about_to_end_is_waited_for(monkeypatch):
    with socket.socket(socket.AF_UNIX) as holder:
        holder.bind(f"\0l2d_jax {COORDINATOR} 2")
        monkeypatch.setattr(distributed.time, "sleep", lambda seconds: holder.close())
        distributed._take_number(COORDINATOR, 2, seconds=1000.0)
