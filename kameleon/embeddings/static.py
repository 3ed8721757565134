"""The bundled model: a table of token vectors, looked up and averaged. No download, no neural network at run time.
Imports `values`, `errors` and `forking`.

It reads any folder in model2vec's layout (`model.safetensors` with a tensor `embeddings`, `tokenizer.json`); without a
path it is `static-en-256`, which ships with kameleon: its README has its origin and quality.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from functools import cache
from os.path import isfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from ..errors import InvalidInput, TextRefused
from ..forking import lazy, state_of
from ..values import Noise
from .provider import EmbeddingProvider, Vector
from .vocabulary import known_share, knows_word
from .weights import hash_of_files

BUNDLED = Path(__file__).parent / "static-en-256"
FILES = ("model.safetensors", "tokenizer.json")
OPTIONS = ("max_tokens", "passage_tokens", "query_prefix", "passage_prefix", "revision")
BUNDLED_NOISE = (0.0690, 0.0873)
"""Measured with `noise.SENTENCES`."""
CHARACTERS_A_TOKEN = 8
"""Bounds the beginning of a long text that is tokenised first. Chosen, not measured."""
DTYPES: Mapping[str, type[np.generic]] = {"I8": np.int8, "F16": np.float16, "F32": np.float32}


class StaticProvider(EmbeddingProvider):
    """`path` is a model folder. Texts are read up to `max_tokens` tokens; one without a known token is refused.

    The files' hash identifies the model, not the folder's name or place; `revision` replaces the hash.
    `passage_tokens` and the prefixes as in EmbeddingProvider.
    """

    name: ClassVar[str] = "static"
    vector_weight: float = 0.6
    attempts: int = 1
    max_tokens: int = 256

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        max_tokens: int = 256,
        passage_tokens: int | None = None,
        query_prefix: str = "",
        passage_prefix: str = "",
        revision: str = "",
    ) -> None:
        self.path: Path = Path(path) if path is not None else BUNDLED
        self.max_tokens = max_tokens
        self._set_options(
            passage_tokens=passage_tokens, query_prefix=query_prefix, passage_prefix=passage_prefix, revision=revision
        )
        missing = [name for name in FILES if not isfile(self.path / name)]
        if missing:
            raise InvalidInput(f"{self.path} is not a static model: it has no {' and no '.join(missing)}")

    @property
    def model_name(self) -> str:  # type: ignore[override]
        return self.path.name

    @property
    def dimensions(self) -> int:  # type: ignore[override]
        return int(self._table.shape[1])

    @property
    def noise(self) -> Noise | None:  # type: ignore[override]
        return BUNDLED_NOISE if self.path == BUNDLED and not self.passage_prefix else None

    @lazy
    def weights(self) -> str:
        """A hash of the model's files."""
        return hash_of_files([self.path / name for name in FILES])

    @property
    def identity(self) -> Sequence[str]:
        return ["static", self.revision or self.weights, str(self.max_tokens)]

    @property
    def options(self) -> Mapping[str, Any]:
        where: dict[str, Any] = {} if self.path == BUNDLED else {"path": str(self.path.resolve())}
        return {**where, **self.changed(*OPTIONS)}

    __getstate__ = state_of

    @lazy
    def _counted(self) -> dict[str, list[int]]:
        """The tokens of texts that were counted and are still to be embedded."""
        return {}

    def load(self) -> None:
        self._first_tokens([""])

    def embed_batch(self, texts: Sequence[str]) -> list[Vector | TextRefused]:
        table = self._table
        vectors = np.zeros((len(texts), table.shape[1]), np.float32)
        for row, tokens in enumerate(self._first_tokens(texts)):
            table.take(tokens, axis=0).sum(axis=0, dtype=np.float32, out=vectors[row])
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        has_tokens = lengths > 0
        vectors[has_tokens] /= lengths[has_tokens, None]
        return [
            vector if is_made else TextRefused("no token of this text is known to the model")
            for vector, is_made in zip(vectors, has_tokens, strict=True)
        ]

    def count_tokens(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def known_share(self, text: str) -> float:
        return known_share(self._tokenizer, text)

    def knows_word(self, word: str) -> bool:
        return knows_word(self._tokenizer, word)

    def count_all(self, texts: Sequence[str]) -> list[int]:
        """Keeps the tokens until they are embedded."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        tokens = [encoding.ids for encoding in encodings]
        self._counted = {text: ids for text, ids in zip(texts, tokens, strict=True) if len(ids) <= self.max_tokens}
        return [len(ids) for ids in tokens]

    def token_spans(self, text: str) -> Sequence[tuple[int, int]]:
        offsets: list[tuple[int, int]] = self._tokenizer.encode(text, add_special_tokens=False).offsets
        return offsets

    def _first_tokens(self, texts: Sequence[str]) -> list[list[int]]:
        counted = {text: ids for text in texts if (ids := self._counted.pop(text, None)) is not None}
        rest = iter(self._tokenised([text for text in texts if text not in counted]))
        return [counted[text] if text in counted else next(rest) for text in texts]

    def _tokenised(self, texts: Sequence[str]) -> list[list[int]]:
        """The first `max_tokens` ids of each text, the tokenizer adding none of its own.

        A long text is cut before it is tokenised. The cut can change only its last word, and a word makes
        `longest_word` tokens at most; where fewer than that are left beyond the window, the whole text is tokenised.
        """
        if self._longest_word is None:
            return self._ids(texts)
        cut = self.max_tokens * CHARACTERS_A_TOKEN
        ids = self._ids([text[:cut] for text in texts], self.max_tokens + self._longest_word)
        short = [
            place
            for place, text in enumerate(texts)
            if len(text) > cut and len(ids[place]) < self.max_tokens + self._longest_word
        ]
        for place, whole in zip(short, self._ids([texts[place] for place in short]), strict=True):
            ids[place] = whole
        return [tokens[: self.max_tokens] for tokens in ids]

    def _ids(self, texts: Sequence[str], limit: int | None = None) -> list[list[int]]:
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids[: limit or self.max_tokens] for encoding in encodings]

    @lazy
    def _table(self) -> NDArray[Any]:
        return np.asarray(read_tensor(self.path / "model.safetensors", "embeddings"))

    @lazy
    def _longest_word(self) -> int | None:
        model = json.loads((self.path / "tokenizer.json").read_text("utf-8"))["model"]
        return model.get("max_input_chars_per_word") if model.get("type") == "WordPiece" else None

    @lazy
    def _tokenizer(self) -> Tokenizer:
        tokenizer = Tokenizer.from_file(str(self.path / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer


@cache
def bundled_words() -> frozenset[str]:
    """The words of the bundled model's vocabulary: common ones of English, and names."""
    model = json.loads((BUNDLED / "tokenizer.json").read_text("utf-8"))["model"]
    return frozenset(token for token in model["vocab"] if token.isalpha())


def read_tensor(path: Path, name: str) -> NDArray[Any]:
    """One tensor of a safetensors file, mapped into memory: 8 bytes of header length, a JSON header, raw numbers."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    if name not in header:
        raise InvalidInput(f"{path} has no tensor {name!r}, only {', '.join(sorted(header))}")
    entry = header[name]
    if entry["dtype"] not in DTYPES:
        raise InvalidInput(f"{path}: tensor {name!r} is {entry['dtype']}; readable: {', '.join(DTYPES)}")
    start, _end = entry["data_offsets"]
    return np.memmap(path, DTYPES[entry["dtype"]], "r", offset=8 + length + start, shape=tuple(entry["shape"]))
