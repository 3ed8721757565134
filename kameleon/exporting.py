"""Writes the records of an entity, with their embeddings, to a file. Imports nothing of kameleon's yet."""
