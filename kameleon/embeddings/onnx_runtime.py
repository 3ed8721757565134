"""Set before onnxruntime is imported: from 1.29 on it reports its use on a thread of its own unless told otherwise, and
a forked child waits for that thread as it ends (microsoft/onnxruntime#31961). What the application set stays."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
