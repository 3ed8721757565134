"""The suite. `conftest` has the stores under test and the words the tests speak."""
