"""Run exported models with numpy, onnxruntime and pillow alone.

import runtime
model = runtime.load("MNIST")
images = model.generate([3, 1, 4], seed=0)
posterior = model.classify(images)
"""

from .bundle import Bundle
from .errors import BundleError, DataError, MissingDataError, ProviderError, ToolkitError
from .model import Model, load
from .places import shipped
from .version import VERSION

__version__ = VERSION

__all__ = [
    "Bundle",
    "BundleError",
    "DataError",
    "MissingDataError",
    "Model",
    "ProviderError",
    "ToolkitError",
    "load",
    "shipped",
]
