"""What an agent remembers of its users, in LangGraph's store. It needs no network: the embedding model is the one that
kameleon includes. `python examples/langgraph_notes.py`"""

import sys
from tempfile import TemporaryDirectory

import kameleon
from kameleon.integrations.langgraph import KameleonStore


def main(folder: str) -> None:
    engine = kameleon.create_engine(f"sqlite:///{folder}/memories.db")
    search = kameleon.SearchEngine(engine, embedding_provider="static")
    store = KameleonStore(search, index={"fields": ["text"]}, ttl={"default_ttl": None, "refresh_on_read": True})

    store.put(("users", "ann"), "m1", {"text": "Ann is allergic to peanuts", "kind": "health"})
    store.put(("users", "ann"), "m2", {"text": "Ann works night shifts in Oslo", "kind": "job"})
    store.put(("users", "bo"), "m1", {"text": "Bo cooks with peanuts every day", "kind": "food"})
    store.put(("users", "ann"), "draft", {"text": "a thought of this hour"}, ttl=60)

    for item in store.search(("users", "ann"), query="what may she not eat?", limit=1):
        sys.stdout.write(f"{'.'.join(item.namespace)} {item.key}: {item.value['text']}\n")
    for item in store.search(("users",), filter={"kind": "food"}):
        sys.stdout.write(f"{'.'.join(item.namespace)} {item.key}: {item.value['text']}\n")
    sys.stdout.write(f"{store.list_namespaces(prefix=('users',))}\n")
    engine.dispose()


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        main(folder)
