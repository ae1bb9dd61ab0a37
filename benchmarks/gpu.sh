#!/usr/bin/env bash
# The paper's two runs on one GPU: tests of the CUDA path, then benchmarks.speed --profile paper.
# Needs this repository and an installed torch with torchvision; no network. Packages that the
# machine lacks are taken from a folder of wheels, if one is given.
#
#   benchmarks/gpu.sh OUT [WHEELS]
#
# writes OUT/speed-gpu.json, OUT/speed-gpu.txt and OUT/tests.txt.
set -euo pipefail
out=$(realpath -m "${1:?folder for the results}")
wheels=${2:+$(realpath "$2")}
cd "$(dirname "$0")/.."
mkdir -p "$out"
if [ -n "$wheels" ]; then
    python3 -m pip install --quiet --no-index --find-links "$wheels" \
        gymnasium stable-baselines3 SimpleITK torchmetrics safetensors platformdirs tyro tqdm \
        filelock pytest hypothesis
fi
export AL_GYM_CACHE=${AL_GYM_CACHE:-$(mktemp -d)}
export CUBLAS_WORKSPACE_CONFIG=:4096:8 # cuBLAS repeats itself only with this
nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv | tee "$out/speed-gpu.txt"
python3 -m pytest -q -p no:cacheprovider tests/al_gym/classifiers/test_cuda_graphs.py tests/al_gym/classifiers/test_images.py \
    tests/al_gym/test_vector.py tests/al_gym/test_cuda.py 2>&1 | tee "$out/tests.txt" ||
    echo "TESTS FAILED, see $out/tests.txt; measuring all the same"
python3 -m benchmarks.speed --device cuda --profile paper --whole --json "$out/speed-gpu.json" \
    2> >(tr '\r' '\n' >&2) | tee -a "$out/speed-gpu.txt"
