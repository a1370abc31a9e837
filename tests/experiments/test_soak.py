"""Many restarts leave behind what one run does, and nothing that grows."""

import os
import re

import pytest

from experiments import cifar
from experiments.configs import digits
from experiments.runtime import signals
from experiments.runtime.workdir import use_workdir
from l2d_jax.engine import checkpoints
from l2d_jax.engine.chunks import Interrupted


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="there is no /proc")
def test_stopped_after_every_other_dispatch(tmp_path, monkeypatch):
    config = digits.get_config("smoke")
    config.checkpoint_seconds, config.epochs_per_dispatch = 0.0, 1
    asked = []

    def stops(self):
        asked.append(1)
        return len(asked) >= 2

    descriptors, ended = [], False
    with monkeypatch.context() as patch:
        patch.setattr(signals.StopSignal, "__call__", stops)
        while not ended:
            asked.clear()
            try:
                with use_workdir(str(tmp_path)) as workdir:
                    cifar.main(config, workdir)
                ended = True
            except Interrupted:
                pass
            descriptors.append(len(os.listdir("/proc/self/fd")))
            for folder in (tmp_path / "checkpoints").glob("*/"):
                names = {re.sub(r"\.json$", "", p.name) for p in folder.iterdir()}
                # Finished chunks, and of one at most where it stands.
                unfinished = [name for name in names if "epoch" in name]
                assert len(unfinished) <= 1, names
                assert all(checkpoints.read_info(folder / name) for name in names)
            assert not list(tmp_path.rglob("*tmp*"))
            if len(descriptors) > 60:
                break
            # What is asked for outside of training never ends otherwise.
            if len(descriptors) > 30:
                patch.undo()
    assert ended and len(descriptors) > 15
    *stopped, last = descriptors
    assert max(stopped[10:]) <= max(stopped[:10])
    # The run that ends draws its figures too.
    assert last <= stopped[-1] + 4
    (results,) = tmp_path.glob("results.csv")
    assert results.stat().st_size > 0
