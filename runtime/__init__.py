"""Run exported models with numpy, onnxruntime and pillow alone.

    import runtime
    model = runtime.load("MNIST")
    images = model.generate([3, 1, 4], seed=0)
    posterior = model.classify(images)
"""

from .bundle import Bundle, shipped
from .errors import BundleError, DataError, MissingDataError, ProviderError, RuntimeProblem
from .model import Model, load

__version__ = "0.1.0"

__all__ = [
    "Bundle",
    "BundleError",
    "DataError",
    "MissingDataError",
    "Model",
    "ProviderError",
    "RuntimeProblem",
    "load",
    "shipped",
]
