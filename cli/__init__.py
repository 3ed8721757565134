"""The `kameleon` command: parse, call the library, print."""
