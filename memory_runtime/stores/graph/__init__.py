"""Graph stores beside the ledger's own SQL: NetworkX in memory, bounded, and Neo4j; GraphML as the way in and out.

The ledger stays the truth. Whatever is here follows it, can be wiped, and answers exactly as SQL does: the walk and its
order are those of `stores.walking`. Imports model, settings, telemetry and what stands in `stores` itself; drivers are
imported by the module that needs them.
"""
