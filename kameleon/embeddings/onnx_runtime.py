"""What models that fastembed runs share. Imported before fastembed. Imports `errors`.

onnxruntime from 1.29 on reports its use on a thread of its own unless this variable is set before it is imported, and
a forked child waits for that thread as it ends (microsoft/onnxruntime#31961). What the application set stays.
"""

import os

from ..errors import ProviderUnavailable

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def not_loaded(model: str, error: Exception, advice: str, cache_dir: str | None) -> ProviderUnavailable:
    where = cache_dir or os.environ.get("FASTEMBED_CACHE_PATH") or "the temporary folder"
    return ProviderUnavailable(
        f"{model} could not be loaded, nor fetched ({type(error).__name__}). {advice} the path of a local model "
        f"folder, or set FASTEMBED_CACHE_PATH to a folder that already holds the model (looked in {where})"
    )
