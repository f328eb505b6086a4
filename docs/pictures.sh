#!/usr/bin/env bash
# The pictures in docs/, of the shipped models: docs/pictures.sh ROOT, where ROOT has the data sets.
set -euo pipefail
cd "$(dirname "$0")/.."
root=${1:?the folder of the data sets}

draw() {
  local key=$1
  shift
  python cli.py generate "$@" --output "docs/$key.png"
  python cli.py generate "$@" --path --height 4 --scale 0.5 --output "docs/$key-path.png"
  python cli.py test-reconstruction "$@" --root "$root" --height 4 --width 5 --scale 0.5 --output "docs/$key-reconstructions.png"
  python cli.py evaluate "$@" --root "$root" --seeds 1 --nearest "docs/$key-nearest.png"
  python cli.py test "$@" --root "$root" --confusion "docs/$key-confusion.png"
}

draw MNIST --dataset MNIST
draw EMNIST-balanced --dataset EMNIST --split balanced
draw EMNIST-byclass --dataset EMNIST --split byclass
draw FashionMNIST --dataset FashionMNIST

for size in fast tiny nano; do
  python cli.py generate --dataset MNIST --size "$size" --output "docs/MNIST-$size.png"
  python cli.py generate --dataset EMNIST --size "$size" --output "docs/EMNIST-balanced-$size.png"
  python cli.py generate --dataset FashionMNIST --size "$size" --output "docs/FashionMNIST-$size.png"
done
# Of what `evaluate --record` put into the manifests; docs/rungs has models that are too small to ship.
python cli.py info models_onnx/* docs/rungs/* --plot docs/ladder.png
