"""The documentation site with kameleon as its search."""
