"""Convolutional networks in several layouts: how the runs of a sweep lie on a device.

`l2d_jax.engine.placement.default_placement` is chosen by this table: runs batched into
one program, one after another in a loop, or written out, a few or many at a time, in
several precisions.
"""

import functools
from collections.abc import Iterator

import jax
import ml_collections

from experiments import networks
from experiments.benchmark.networks import (
    convnet_flops,
    make_images,
    time_steps,
    time_wide_resnet_peer,
    wide_resnet_flops,
)
from experiments.benchmark.timing import (
    PRECISIONS,
    SEQUENTIAL_TORCH,
    SWEEP,
    Timing,
    Variant,
)
from l2d_jax.engine import placement

FLOPS = {
    "wide_resnet": lambda sizes: wide_resnet_flops(sizes.depth, sizes.width),
    "convnet": lambda sizes: convnet_flops(
        sizes.channels, sizes.window, sizes.hidden, 11
    ),
}
"""Operations of a training step on an image, by the kind of network."""


def layout_variants(config: ml_collections.ConfigDict) -> Iterator[Variant]:
    """Images a second in training, for every trial of ``config.layouts``."""
    sizes = config.layouts
    batch = make_images(sizes.batch)

    def trial(
        network: ml_collections.ConfigDict, precision: str, where: placement.Placement
    ) -> Timing:
        dtype, of_products = PRECISIONS[precision]
        model = networks.make_model(
            ml_collections.ConfigDict({**network, "dtype": dtype}), (10, 1)
        )
        with jax.default_matmul_precision(of_products):
            return time_steps(
                model, batch, where, where.runs_per_device, sizes.steps, sizes.batch
            )

    for name, precision in sizes.peers:
        network = sizes.networks[name]
        yield Variant(
            f"{name}, {precision}",
            SEQUENTIAL_TORCH,
            1,
            "images",
            wide_resnet_flops(network.depth, network.width),
            functools.partial(
                time_wide_resnet_peer,
                batch,
                network.depth,
                network.width,
                1,
                sizes.peer_steps,
                sizes.batch,
                precision,
            ),
            precision,
        )
    for name, precision, kind, runs in sizes.trials:
        network = sizes.networks[name]
        yield Variant(
            f"{name}, {precision}",
            f"{SWEEP}, {kind}",
            runs,
            "images",
            FLOPS[network.name](network),
            functools.partial(
                trial, network, precision, placement.Placement(kind, runs)
            ),
            precision,
        )
