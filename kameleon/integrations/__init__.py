"""Adapters of retrieval frameworks, each a module of its own that loads its framework: `langchain`, `langgraph`,
`llamaindex`, `haystack`. Imports nothing."""
