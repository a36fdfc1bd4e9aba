"""Labels, annotations and names. They are an interface: people select by them, and older objects carry them."""

from __future__ import annotations

from soma_operator.catalog.kinds import GROUP

FIELD_MANAGER = "soma-operator"
TOKEN_MANAGER = "soma-operator-token"  # noqa: S105
"""A field manager of its own: what owns the token's value is never applied again."""
SCALE_MANAGER = "soma-operator-scale"
"""A field manager of its own: holds the number of replicas while it passes from us to an autoscaler."""
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MEMORY_LABEL = f"{GROUP}/memory"
CHILD_SELECTOR = f"{MANAGED_BY_LABEL}={FIELD_MANAGER}"

DESIRED_HASH = f"{GROUP}/desired-hash"
"""On a child: hash of what was desired when it was applied last."""
TEMPLATE_HASH = f"{GROUP}/template-hash"
"""On a Deployment: hash of its pod template; only when it changes do pods restart."""
SETTINGS_HASH = f"{GROUP}/settings-hash"
"""On pods: hash of the settings they read at start."""
TOKEN_DIGEST = f"{GROUP}/token-digest"
"""On pods: digest of the token Secret's metadata, never of its values."""

CREDENTIALS_DIGEST = f"{GROUP}/credentials-digest"
"""On pods: digest of the metadata of the back ends' Secrets, never of their values."""

ADOPT = f"{GROUP}/adopt"
"""On an object that somebody else made: the name of the SomaMemory that may take it over."""
CONSENT = f"{GROUP}/consent"
"""Label, on a Secret, ConfigMap or claim: `true` lets SomaMemories of its namespace name it, where a policy asks."""
MAY_BE_SENT_TO = f"{GROUP}/may-be-sent-to"
"""On a Secret: the hosts, separated by commas, that its values may be sent to."""
ACCEPT_DATA_LOSS = f"{GROUP}/accept-data-loss"
"""On a SomaMemory: the uid of the lost volume. Naming the uid makes the consent good for one loss only."""
RECONCILE_AT = f"{GROUP}/reconcile-at"
"""On a SomaMemory: any new value asks for a reconcile now; status.lastHandledReconcileAt answers with it."""

TOKEN_KEY = "token"  # noqa: S105
SETTINGS_KEY = "settings.yaml"


def settings_name(memory: str) -> str:
    """ConfigMap with the resolved settings."""
    return f"{memory}-settings"


def token_name(memory: str) -> str:
    """Secret with the generated token."""
    return f"{memory}-token"


def migration_name(memory: str, inputs: str) -> str:
    """Job that migrates the ledger, named after the hash of what goes into it."""
    return f"{memory}-migrate-{inputs[:10]}"


def claim_name(memory: str) -> str:
    """PersistentVolumeClaim of embedded mode."""
    return f"{memory}-data"
