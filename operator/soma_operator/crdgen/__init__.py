"""Room: generates from the API models what must agree with them: `crds/*.yaml` with the chart's copy, and
`docs/reference.md`.

`schema` turns a pydantic model into a structural schema, `definitions` wraps it into CustomResourceDefinitions, and
`reference` writes the field reference. Run it with `python -m soma_operator.crdgen`; with `--check` it writes nothing
and fails when a file is stale. Imports only `soma_operator.api`; nothing that runs in the operator imports it.
"""
