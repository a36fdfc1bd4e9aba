"""How the tests are run: which of them share a process, and in what order. A plugin of pytest."""
