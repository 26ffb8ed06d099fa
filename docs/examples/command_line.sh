#!/usr/bin/env bash
# Train a detector on the shipped sample, export it, evaluate it, and score a file: into the folder OUT.
#   command_line.sh OUT    (from the top of the repository, with its environment active)
set -euo pipefail
out=${1:?name a folder for the output}
mkdir -p "$out"

python -m training train exported/sample.h5 --out "$out/run" --preset classic --epochs 2
python -m training export "$out/run" --out "$out/mine.onnx"
python -m training evaluate "$out/mine.onnx" exported/sample.h5 --out "$out/evaluation"
python -m training score exported/sample.h5 --model "$out/mine.onnx" --out "$out/scores.csv"
python -m service check --model "$out/mine.onnx"
