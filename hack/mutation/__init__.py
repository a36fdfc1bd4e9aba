"""Mutants: each breaks one safety rule by one change of the source, and names the test that must fail for it.

`catalogue` is the list, `patching` makes and undoes a change in a copy of the tree, `__main__` runs the tests there. A
mutant whose test passes means that nothing holds the rule. May import nothing of what it breaks.
"""
