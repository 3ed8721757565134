"""An application as gunicorn preloads it: it makes its engine, and opens the index, before the workers are forked."""

import json
import os
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

import kameleon
from kameleon import SearchEngine
from kameleon.embeddings import get_provider

OPTIONS = json.loads(os.environ.get("PRELOADED_PROVIDER", '{"provider": "static"}'))

provider = get_provider(**OPTIONS)
engine = kameleon.create_engine(os.environ["PRELOADED_URL"])
search = SearchEngine(engine, provider)
provider.embed("a text in the parent")


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The process that answers and the ids that it finds; with `add` it indexes a record first."""
    parameters = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    if "add" in parameters:
        search.index_record("Answer", parameters["add"], f"answer {parameters['add']}")
    found = [hit.id for hit in search.search(parameters["q"], entity="Page", limit=1)]
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"pid": os.getpid(), "ids": found}).encode()]
