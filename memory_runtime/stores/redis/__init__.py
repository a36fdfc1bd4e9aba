"""Redis: how it is reached (alone, behind Sentinels, as a cluster), what its errors mean, and marked cache entries.

What is kept in it is kept nowhere else's stead: everything here may be wiped. Needs the `distributed` extra; import the
modules, not this package. Imports model, settings, telemetry and `stores.resilience`.
"""
