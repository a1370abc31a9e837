#!/usr/bin/env bash
# What `launch/gpu_figures.sh` needs on a machine that reaches no network: wheels, and
# CIFAR-10 in pieces small enough to be carried one at a time.
#
#   launch/gpu_prepare.sh FOLDER
#
# Needs $L2D_DATA_DIR with tensorflow_datasets/cifar10, pip and its index. $PYTHON_VERSION
# (3.12) is the Python of that machine, $PIECE (46M) the size of a piece. PyTorch, JAX,
# Flax, Optax, Orbax, pandas, scikit-learn, SciPy, statsmodels, matplotlib and pytest are
# taken to be there.
set -euo pipefail

folder=${1:?usage: launch/gpu_prepare.sh FOLDER}
: "${L2D_DATA_DIR:?must name the folder that holds tensorflow_datasets/cifar10}"
mkdir -p "$folder/wheels"

platforms=()
for name in manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014 manylinux1; do
  platforms+=(--platform "${name}_x86_64")
done
python -m pip download --quiet --no-deps --only-binary=:all: \
  --python-version "${PYTHON_VERSION:-3.12}" --implementation cp "${platforms[@]}" \
  --dest "$folder/wheels" \
  array-record dm-tree docstring-parser immutabledict importlib_resources ml_collections \
  simple-parsing tensorflow-datasets tensorflow-metadata termcolor toml
# It has no wheel on the index.
python -m pip wheel --quiet --no-deps --wheel-dir "$folder/wheels" promise

tar --create --directory "$L2D_DATA_DIR" tensorflow_datasets/cifar10 |
  split --bytes="${PIECE:-46M}" --numeric-suffixes - "$folder/cifar10.tar."
du --human-readable --apparent-size "$folder"/wheels "$folder"/cifar10.tar.*
