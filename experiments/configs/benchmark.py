"""How fast the engine is, against PyTorch and against one jitted run after another.

  python -m experiments.benchmark --workdir=runs/benchmark

About 35 minutes on 2 CPU cores with nothing else running, 5 of them for ``scaling``
and, by its rates beside other programs, 10 for ``zoo``; needs the extra ``bench``.

  JAX_PLATFORMS=cpu python -m experiments.benchmark --workdir=runs/topology \
      --config.workloads="('topology',)"

compiles the sweeps for TPU slices and runs nothing; needs the extra ``tpu``, and takes
minutes. ``topology.chip`` describes a chip: peak arithmetic in bfloat16, in which a TPU
by default multiplies float32 matrices too, bandwidth and size of its memory. Those of a
v5e, 197 TFLOP/s, 819 GB/s and 16 GiB, are the vendor's (Google Cloud, "TPU v5e").

  python -m experiments.benchmark --workdir=runs/growth \
      --config.workloads="('growth',)" --config.repeats=1

makes an experiment larger and larger, along three axes; minutes.

  python -m experiments.benchmark --workdir=runs/roofline \
      --config.workloads="('roofline',)"

says what bounds a step of small nets and streams on this machine; a minute.
"""

import ml_collections


def get_config(scale: str = "default") -> ml_collections.ConfigDict:
    """Settings at a scale: ``smoke``, default, ``paper`` (up to 5,000 runs)."""
    if scale not in ("smoke", "default", "paper"):
        raise ValueError(f"scale must be smoke or paper or left out, got {scale!r}")
    config = ml_collections.ConfigDict()
    config.repeats = 3
    config.workloads = (
        "small",
        "fair",
        "zoo",
        "digits",
        "streams",
        "scaling",
        "wide_resnet",
    )
    # Pairs of small nets, 20 features, batch 100, validated after every epoch.
    config.hidden = (5, 20)
    config.rows = 4940
    config.valid_rows = 1235
    config.epochs = 200  # About where early stopping leaves such a run.
    # Runs of a sweep: of the first of the sizes above, and of the others.
    config.widths = (8, 64, 256, 1024)
    config.other_widths = (256,)
    config.stacked_widths = (256, 1024)
    config.peer_epochs = 20
    # The same with fairness, in the shapes of COMPAS; numbers of costs and of alphas.
    config.fair = {"rows": 6175, "valid_rows": 1543, "features": 22, "hidden": 5}
    config.fair.batch = 64
    config.fair.grids = ((16, 16), (32, 32))
    # Seven methods that learn to defer, over many seeds: on a table of the shape of
    # COMPAS, and on sentences as in the hate speech set, where networks are linear. In
    # PyTorch some epochs of fewer seeds are timed. A linear network of many inputs
    # keeps a core busy by itself: several at a time are slower.
    config.zoo = {
        "compas": {
            "rows": 6175,
            "valid_rows": 1543,
            "features": 21,
            "classes": 2,
            "hidden": (10,),
            "batch": 64,
            "seeds": 100,
            "epochs": 200,
            "runs_per_device": 128,
            "peer_seeds": 1,
            "peer_epochs": 20,
        },
        "sentences": {
            "rows": 17348,
            "valid_rows": 2478,
            "features": 384,
            "classes": 3,
            "hidden": (),
            "batch": 1000,
            "seeds": 100,
            "epochs": 20,
            "runs_per_device": 1,
            "peer_seeds": 1,
            "peer_epochs": 10,
        },
    }
    # A 64-128-11 network on the bundled digits, batch 128.
    config.digits_seeds = 64
    config.digits_epochs = 200
    config.digits_peer_epochs = 20
    # Closed-loop allocation, one arrival at a time; few streams for the NumPy loop.
    config.streams = {"arrivals": 10000, "annotators": (20, 100), "streams": 1024}
    config.streams.peer_streams = 3
    # The small nets on more devices and processes; for weak scaling, runs of a device.
    config.scaling = {"strong_runs": 1024, "weak_runs": 256, "simulated_devices": 8}
    config.scaling.update({"rows": 4940, "valid_rows": 1235, "epochs": 50})
    config.scaling.runs_per_device = 128
    # Programs as they are started, with nothing compiled and again.
    config.start = {"scales": ("smoke", "")}
    config.start.programs = {
        "digits": ("experiments.cifar", "experiments/configs/digits.py"),
        "synthetic": ("experiments.tabular", "experiments/configs/synthetic.py"),
        "trips": ("experiments.trips", "experiments/configs/trips.py"),
        "clusters": ("experiments.allocation", "experiments/configs/clusters.py"),
    }
    # One experiment from its examples to its tables, and what makes it larger. Runs:
    # the mixture, whose price is swept, at 64 prices for each of more and more seeds.
    # Examples: the deferral cross-entropy, one network and no price, at 4 seeds;
    # validated and tested on a third as many as it trains on. Experts: one-vs-all, to
    # which each expert adds one output, at 4 seeds.
    config.growth = {
        "runs": {
            "sizes": (8, 64, 512, 4096, 16384),
            "method": "mixture",
            "model": {"name": "gated_pair", "hidden": 5},
            "examples": 1500,
            "experts": 1,
            "costs": 64,
            "epochs": 4,
        },
        "examples": {
            "sizes": (1000, 10_000, 100_000, 1_000_000),
            "method": "deferral",
            "model": {"name": "mlp", "hidden": (32,)},
            "runs": 4,
            "experts": 1,
            "costs": 1,
            "epochs": 2,
        },
        "experts": {
            "sizes": (1, 5, 20, 100, 200),
            "method": "one_vs_all",
            "model": {"name": "mlp", "hidden": (32,)},
            "runs": 4,
            "examples": 10_000,
            "costs": 1,
            "epochs": 5,
        },
    }
    for sizes in config.growth.values():
        sizes.update({"features": 20, "batch": 128})
    # A WideResNet-10-2 training step on 32 x 32 images.
    config.wide_resnet = {"depth": 10, "width": 2, "batch": 32, "seeds": 4, "steps": 10}
    # Images a second of the papers' networks in several layouts, for a GPU: network,
    # precision, kind of placement, and runs that the device holds.
    config.layouts = {"batch": 128, "steps": 10, "peer_steps": 60}
    config.layouts.networks = {
        "WideResNet-28-4": {
            "name": "wide_resnet",
            "depth": 28,
            "width": 4,
            "stem_stride": 1,
        },
        "small CNN": {
            "name": "convnet",
            "channels": (100, 100),
            "window": 5,
            "hidden": (1000, 500),
        },
    }
    config.layouts.peers = (
        ("WideResNet-28-4", "tf32"),
        ("WideResNet-28-4", "bfloat16"),
    )
    large, small = config.layouts.networks
    config.layouts.trials = (
        (large, "bfloat16", "vmap", 1),
        (large, "bfloat16", "vmap", 4),
        (large, "bfloat16", "loop", 4),
        (large, "bfloat16", "unroll", 2),
        (large, "tf32", "vmap", 1),
        (large, "float32", "vmap", 1),
        (small, "bfloat16", "vmap", 1),
        (small, "bfloat16", "vmap", 8),
        (small, "bfloat16", "loop", 8),
        (small, "bfloat16", "unroll", 8),
        (small, "tf32", "vmap", 1),
        (small, "tf32", "vmap", 8),
        (large, "bfloat16", "vmap", 8),
        (small, "bfloat16", "vmap", 64),
        (large, "tf32", "loop", 4),
    )
    # Compiled for slices of TPUs; the WideResNets, whose programs are the same on any
    # number of chips and take minutes each, for one of them.
    config.topology = {
        "workloads": ("digits", "compas", "streams", "wide_resnet"),
        "generation": "v5e",
        "slices": ("2x2", "4x4", "16x16"),
        "wide_resnet_slices": ("2x2",),
        "wide_resnets": ((10, 2), (28, 4)),
        "convolution": "xla",
        "wide_resnet_runs": 4,  # Of a chip, in one batched program.
        "annotators": (20,),
    }
    config.topology.chip = {"peak_tflops": 197.0, "memory_gb_per_second": 819.0}
    config.topology.chip.memory_gib = 16.0
    # Steps at the default placement, beside what the machine allows.
    config.roofline = {
        "workloads": ("small", "compas", "digits", "streams"),
        "annotators": (20, 100),
        "wide_resnets": ((10, 2),),
        "convolution": "auto",
        "steps": 1000,
    }
    if scale == "smoke":
        config.roofline.update({"workloads": ("small", "streams"), "steps": 2})
        config.roofline.annotators = (3,)
        config.topology.workloads = ("digits",)
        config.topology.slices = ("2x2",)
        config.repeats = 1
        config.hidden = (5,)
        config.rows = 200
        config.valid_rows = 100
        config.epochs = 3
        config.widths = (2,)
        config.other_widths = (2,)
        config.stacked_widths = (2,)
        config.peer_epochs = 2
        config.fair = {"rows": 200, "valid_rows": 100, "features": 4, "hidden": 2}
        config.fair.batch = 64
        config.fair.grids = ((1, 2),)
        for sizes in config.zoo.values():
            sizes.update({"rows": 100, "valid_rows": 60, "features": 4, "batch": 20})
            sizes.update({"seeds": 3, "epochs": 4, "peer_epochs": 1})
        config.digits_seeds = 2
        config.digits_epochs = 2
        config.digits_peer_epochs = 1
        config.streams = {"arrivals": 30, "annotators": (3,), "streams": 4}
        config.streams.peer_streams = 2
        config.scaling = {"strong_runs": 4, "weak_runs": 2, "simulated_devices": 3}
        config.scaling.update({"rows": 200, "valid_rows": 100, "epochs": 3})
        config.scaling.runs_per_device = 2
        config.start.scales = ("smoke",)
        del config.start.programs
        digits = ("experiments.cifar", "experiments/configs/digits.py")
        config.start.programs = {"digits": digits}
        for axis, sizes in config.growth.items():
            sizes.update({"features": 4, "batch": 20, "epochs": 1})
            sizes.update({"runs": 2, "examples": 100, "experts": 1})
            del sizes[axis]
            sizes.sizes = {"runs": (2, 4), "examples": (100, 200), "experts": (1, 2)}[
                axis
            ]
        config.wide_resnet = {
            "depth": 10,
            "width": 1,
            "batch": 4,
            "seeds": 2,
            "steps": 1,
        }
        config.layouts.update({"batch": 4, "steps": 1, "peer_steps": 1})
        networks = config.layouts.networks
        networks[large].update({"depth": 10, "width": 1})
        networks[small].update({"channels": (2,), "hidden": (3,)})
        config.layouts.networks = {
            "WideResNet-10-1": networks[large],
            "tiny CNN": networks[small],
        }
        config.layouts.peers = (("WideResNet-10-1", "tf32"),)
        config.layouts.trials = tuple(
            (name, "bfloat16", kind, 2)
            for name in config.layouts.networks
            for kind in ("vmap", "loop")
        )
    if scale == "paper":
        config.widths = (8, 64, 256, 1024, 5000)
    return config
