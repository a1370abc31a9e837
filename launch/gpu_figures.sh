#!/usr/bin/env bash
# The figures that need a GPU, in parts that each end in a table.
#
#   launch/gpu_figures.sh FOLDER OUT PART...
#
# FOLDER is what `launch/gpu_prepare.sh` made; its pieces of CIFAR-10 may come one by one.
# OUT gets a folder and a log for each part. The parts, the most valuable first, and how
# long they took on an H200:
#
#   tests     of losses and of the engine, on the GPU           75 s
#   layouts   runs batched, looped and written out              4 minutes
#   sweeps    small nets and streams, against PyTorch, NumPy    5 minutes
#   cifar     CIFAR-10 with WideResNet-28-4, EPOCHS=50          6 minutes
#   cnn       the zoo on CIFAR-10 with the small network        more than 10 minutes
#
# A part that fails or takes longer than $LIMIT (540) seconds leaves its log, and the next
# begins. `cifar` and `cnn` stop at a checkpoint then, and go on from it when they are
# asked for again while $SCRATCH (/tmp/l2d_gpu) is there. With SCALE=smoke all take
# minutes on two CPU cores, where NO_WHEELS=1 leaves the installed packages as they are.
# EPOCHS and SEEDS are those of `cifar`; CNN_FLAGS are further flags of `cnn`.
set -uo pipefail
cd "$(dirname "$0")/.."

folder=$(realpath "${1:?usage: launch/gpu_figures.sh FOLDER OUT PART...}")
out=${2:?usage: launch/gpu_figures.sh FOLDER OUT PART...}
shift 2
scratch=${SCRATCH:-/tmp/l2d_gpu}
smoke=""
if [ "${SCALE:-}" = smoke ]; then smoke=yes; fi
mkdir -p "$out" "$scratch"

if [ ! -d "$scratch/site" ] && [ -z "${NO_WHEELS:-}" ]; then
  python3 -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir \
    --target "$scratch/site" "$folder"/wheels/*.whl
fi
export PYTHONPATH="$PWD:$scratch/site${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONUNBUFFERED=1 L2D_DATA_DIR="$scratch/data"
# PyTorch needs its share of the same GPU.
export XLA_PYTHON_CLIENT_MEM_FRACTION=.6

# Every call brings a piece; they are joined when all are there.
mkdir -p "$scratch/pieces" "$scratch/data"
cp --no-clobber "$folder"/cifar10.tar.* "$scratch/pieces/" 2>/dev/null

part() {
  local name=$1 start=$SECONDS status
  shift
  mkdir -p "$out/$name"
  timeout --signal=INT "${LIMIT:-540}" "$@" > "$out/$name.log" 2>&1
  status=$?
  echo "== $name: status $status, $((SECONDS - start)) s"
  tail -n "${LINES_SHOWN:-25}" "$out/$name.log"
}

tests() {
  # Products at full precision, as on a CPU; the tests' tolerances are for that.
  JAX_DEFAULT_MATMUL_PRECISION=highest XLA_PYTHON_CLIENT_PREALLOCATE=false \
    part tests python3 -m pytest -q -m 'not slow' -n "${PROCESSES:-8}" -p no:cacheprovider \
    tests/test_losses.py tests/losses tests/engine
}

benchmark() {
  local name=$1
  shift
  part "$name" python3 -m experiments.benchmark --workdir="$scratch/$name" \
    --config="experiments/configs/benchmark.py${smoke:+:smoke}" \
    --config.repeats=1 "$@"
  cp "$scratch/$name/benchmark.csv" "$scratch/$name/benchmark.png" "$out/$name/"
}

layouts() { benchmark layouts --config.workloads="('layouts',)"; }

sweeps() {
  local widths=(--config.widths="(64,1024,4096,16384)" --config.other_widths="(1024,)")
  if [ "$smoke" ]; then widths=(); fi
  benchmark sweeps --config.workloads="('small','fair','digits','streams','zoo')" \
    "${widths[@]}"
}

cifar10_is_there() {
  if [ ! -d "$scratch/data/tensorflow_datasets" ]; then
    cat "$scratch"/pieces/cifar10.tar.* | tar --extract --directory "$scratch/data"
  fi
}

tables_of() { cp "$scratch/$1"/*.csv "$scratch/$1/config.json" "$out/$1/"; }

cnn() {
  cifar10_is_there || return
  part cnn python3 -m experiments.zoo --workdir="$scratch/cnn" \
    --config="experiments/configs/zoo_cifar_cnn.py${smoke:+:smoke}" ${CNN_FLAGS:-}
  tables_of cnn
}

cifar() {
  cifar10_is_there || return
  local epochs=${EPOCHS:-200}
  local flags=(--config.num_perfect="(0,5,10)" --config.num_seeds="${SEEDS:-1}"
    --config.grid.alpha="(1.0,)" --config.num_epochs="$epochs"
    --config.expert_model_epochs="$epochs" --config.model.dtype=bfloat16
    --config.methods="('deferral','classifier','expert')")
  if [ "$smoke" ]; then flags=(--config.num_perfect="(5,)"); fi
  part cifar python3 -m experiments.cifar --workdir="$scratch/cifar" \
    --config="experiments/configs/cifar10.py:$([ "$smoke" ] && echo smoke || echo paper)" "${flags[@]}"
  tables_of cifar
}

for name in "$@"; do
  case $name in
    tests | layouts | sweeps | cifar | cnn) "$name" ;;
    *) echo "gpu_figures.sh: no part is called $name" >&2; exit 2 ;;
  esac
done
