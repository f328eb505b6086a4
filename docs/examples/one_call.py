"""Draw and read digits with a bundle's one-call graphs and onnxruntime alone.

python one_call.py ../../models_onnx/MNIST 3 1 4
"""

import json
import os
import sys
from pathlib import Path

import numpy as np

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # or else onnxruntime sends its makers notes of its use

import onnxruntime

if len(sys.argv) < 2:
    sys.exit("usage: one_call.py FOLDER_OF_A_BUNDLE [LABEL ...]")
folder, labels = Path(sys.argv[1]), np.array(sys.argv[2:] or [3, 1, 4], np.int64)
manifest = json.loads((folder / "manifest.json").read_text())
generate = onnxruntime.InferenceSession(folder / "generate.onnx")
noise = np.random.default_rng().standard_normal((len(labels), *manifest["latent_shape"]), np.float32)
weight = np.full(len(labels), manifest["defaults"]["weight"], np.float32)
(images,) = generate.run(None, {"noise": noise, "label": labels, "weight": weight})  # uint8 (N, 28, 28)
print(f"images {images.shape}, mean grey level {images.mean():.0f}")
if "classify.onnx" in manifest["files"]:  # or else it only generates
    classify = onnxruntime.InferenceSession(folder / "classify.onnx")
    log_likelihood, posterior = classify.run(None, {"image": images})  # float32 (N, classes), calibrated
    for label, row in zip(labels, posterior, strict=True):
        print(f"{label} is read as {row.argmax()}, {row.max():.1%}")
