"""The event pipeline: schema, producer relay, consumer, dead-letter queue, `config.updates`. Empty in this version.

May import engine, stores, settings, model.
"""
