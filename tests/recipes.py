"""Recipes that take seconds, and what runs them, for tests."""

from pathlib import Path

import torch

from commands import recipe

TINY = """
dataset = "MNIST"
[autoencoder]
model = "vae"
total_epochs = 1
batch_size = 64
alpha = 0.5
[autoencoder.network]
dim1 = 4
dim2 = 4
n_layers = 1
[classifier]
total_epochs = 1
batch_size = 64
distort = 0.1
[classifier.network]
width = 2
[flow]
total_epochs = 1
batch_size = 64
milestones = [1]
sample_latents = true
[flow.network]
dim1 = 8
n_layers = 1
sieve = 3
[[flow_stages]]
name = "tuning"
total_epochs = 1
batch_size = 64
sample_latents = true
class_weight = 0.5
pairs = 3
classifier_version = "dev"
[[flow_stages]]
name = "narrowing"
model = "decoder"
total_epochs = 1
batch_size = 64
[flow_stages.network]
dim2 = 3
dim3 = 2
dim4 = 1
[[flow_stages]]
name = "finishing"
total_epochs = 1
batch_size = 64
lr = 1e-4
class_weight = 0.5
pairs = 3
frechet_weight = 0.02
adversarial_weight = 0.03
judges = 2
[flow_stages.sampler]
steps = 3
weight = 1.2
[distillation]
total_epochs = 1
batch_size = 64
[distillation.network]
dim1 = 8
n_layers = 1
dim2 = 4
dim3 = 2
n_blocks = 1
numbers = 4
frequencies = 3
[[generator_stages]]
name = "finishing"
total_epochs = 1
batch_size = 64
regression_weight = 0.1
adversarial_weight = 0.5
[generator_stages.network]
wave_numbers = 5
[export]
weight = 1.5
diffusion = 0.5
quantize = "int8"
"""
SHARING = """
dataset = "EMNIST"
split = "SPLIT"
[autoencoder]
model = "vae"
from = "MNIST"
[flow]
total_epochs = 1
batch_size = 64
pairs = 2
[flow.network]
dim1 = 8
n_layers = 1
[export]
steps = 2
"""


COMPACT = """
dataset = "MNIST"
size = "compact"
[autoencoder]
model = "vae"
from = "MNIST"
[flow]
from = "MNIST"
[[flow_stages]]
name = "finishing"
total_epochs = 1
batch_size = 64
pairs = 2
quantize = "int4"
adversarial_weight = 0.03
[export]
steps = 2
quantize = "int4"
packed = true
"""


NANO = """
dataset = "MNIST"
size = "nano"
[distillation]
total_epochs = 1
batch_size = 64
[distillation.network]
dim1 = 8
n_layers = 1
dim2 = 4
dim3 = 2
n_blocks = 0
numbers = 6
frequencies = 3
[export]
weight = 1.4
quantize = "int8"
"""


FAST = NANO.replace("nano", "fast").replace(
    "[distillation]\n", '[autoencoder]\nmodel = "vae"\nfrom = "MNIST"\n[flow]\nfrom = "MNIST"\n[distillation]\n'
)


def run(root, promote, name="tiny", **more):
    return recipe.run_recipe(name, root, Path("z.safetensors"), torch.device("cpu"), 0, promote, **more)


def trainings(description):
    """All that a manifest says a network has been through, the last one first, each in full.

    Of a training that another went on from it says what was otherwise, and None of what was not said.
    """
    found = [description]
    while "before" in found[-1]:
        later = {key: value for key, value in found[-1].items() if key != "before"}
        found.append(later | found[-1]["before"])
    return found
