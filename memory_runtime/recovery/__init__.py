"""Backup, manifest, verification, restore, drill and reconciliation. Empty in this version.

May import engine, stores, settings, model.
"""
