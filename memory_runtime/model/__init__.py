"""The words of the runtime: scopes, coordinates, ids, records, durations, canonical JSON and the error taxonomy.

Everything here is a value or a pure function. May import nothing of ours.
"""
