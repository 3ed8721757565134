"""A second static model, made of the bundled one."""

import json
import shutil
import struct
from pathlib import Path

from kameleon.embeddings.static import BUNDLED, read_tensor


def small_model(folder: Path, dimensions: int = 32) -> Path:
    """The first dimensions of the bundled model, in a new folder that names them."""
    table = read_tensor(BUNDLED / "model.safetensors", "embeddings")[:, :dimensions]
    entry = {"dtype": "I8", "shape": list(table.shape), "data_offsets": [0, table.nbytes]}
    header = json.dumps({"embeddings": entry}).encode()
    made = folder / f"static-en-{dimensions}"
    made.mkdir(parents=True)
    (made / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + table.tobytes())
    shutil.copy(BUNDLED / "tokenizer.json", made)
    return made
