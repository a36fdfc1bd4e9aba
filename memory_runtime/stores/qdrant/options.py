"""How Qdrant is reached and what its collection must look like, from the settings, and the client that they make."""

from __future__ import annotations

import logging
import math
import re
import ssl
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from qdrant_client import AsyncQdrantClient

from memory_runtime.settings import SettingsError, SMFSettings

log = logging.getLogger(__name__)

_NAME: Final = re.compile(r"[^/\\<>:\"|?*\x00-\x1f]{1,255}")
GRPC_LIMIT: Final = 64 * 2**20
"""The largest answer taken over gRPC; the library's own default is no limit at all."""


@dataclass(frozen=True, slots=True)
class QdrantOptions:
    """Where Qdrant is, what its collection must be, and how it is used; times in seconds.

    `shards`, `replicas` and `consistency` are None where Qdrant's own choice is taken and not checked. `secret` is the
    API key: it is in no message.
    """

    collection: str
    dim: int
    url: str = ""
    grpc_port: int = 6334
    prefer_grpc: bool = True
    secret: str | None = field(default=None, repr=False)
    ca: Path | None = None
    shards: int | None = None
    replicas: int | None = None
    consistency: int | None = None
    quantization: Literal["none", "int8"] = "none"
    timeout: float = 5.0
    batch: int = 500
    queue_limit: int = 10_000
    band_width: float = 1.0


def options_of(settings: SMFSettings) -> QdrantOptions | None:
    """The options that the settings say; None where no Qdrant is named. Raises SettingsError naming the setting."""
    url = _url(settings)
    if url is None:
        return None
    collection = settings.qdrant_collection or settings.namespace
    if not _NAME.fullmatch(collection):
        raise SettingsError(
            f"qdrant_collection: {collection!r} is not a collection's name",
            setting="qdrant_collection",
            remedy="use letters, digits, dots, dashes and underscores",
        )
    secret = settings.qdrant_api_key
    return QdrantOptions(
        collection=collection,
        dim=settings.vector_dim,
        url=url,
        grpc_port=settings.qdrant_grpc_port,
        prefer_grpc=settings.qdrant_prefer_grpc,
        secret=None if secret is None else secret.get_secret_value(),
        ca=settings.qdrant_tls_cert,
        shards=settings.qdrant_shard_number,
        replicas=settings.qdrant_replication_factor,
        consistency=settings.qdrant_write_consistency_factor,
        quantization=settings.qdrant_quantization,
        timeout=settings.qdrant_timeout_seconds,
        batch=settings.qdrant_batch_size,
        queue_limit=settings.qdrant_queue_limit,
        band_width=settings.qdrant_band_width,
    )


def _url(settings: SMFSettings) -> str | None:
    if settings.qdrant_url is not None:
        url = settings.qdrant_url.get_secret_value()
        return f"https://{url.partition('://')[2]}" if settings.qdrant_tls else url
    if settings.qdrant_host is None:
        return None
    return f"{'https' if settings.qdrant_tls else 'http'}://{settings.qdrant_host}:{settings.qdrant_port}"


def connect(options: QdrantOptions) -> AsyncQdrantClient:
    """A client of the server; nothing is sent yet. Raises SettingsError for a CA that cannot be read."""
    more: dict[str, Any] = {}
    grpc: dict[str, Any] = {
        "grpc.max_receive_message_length": GRPC_LIMIT,
        # a connection that died without a word is noticed, and made again soon
        "grpc.keepalive_time_ms": 10_000,
        "grpc.keepalive_timeout_ms": 3_000,
        "grpc.max_reconnect_backoff_ms": 2_000,
    }
    if options.ca is not None:
        more["verify"], grpc["root_certificates"] = _trust(options.ca)
    with warnings.catch_warnings():
        if options.secret is not None and options.url.startswith("http://"):
            log.warning("qdrant_api_key goes over an unencrypted connection: use https:// or qdrant_tls")
            warnings.filterwarnings("ignore", message="Api key is used with an insecure connection")
        return AsyncQdrantClient(
            url=options.url,
            grpc_port=options.grpc_port,
            prefer_grpc=options.prefer_grpc,
            api_key=options.secret,
            # whole seconds there; the store's own time-out is exact
            timeout=math.ceil(options.timeout),
            grpc_options=grpc,
            # asks in a thread of its own and warns on standard error; `schema` asks for the version itself
            check_compatibility=False,
            **more,
        )


def _trust(ca: Path) -> tuple[ssl.SSLContext, bytes]:
    try:
        return ssl.create_default_context(cafile=ca), ca.read_bytes()
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it holds no certificate"
        raise SettingsError(
            f"qdrant_tls_cert: cannot read {ca}: {reason}",
            setting="qdrant_tls_cert",
            remedy="mount the CA's certificate there, as PEM",
        ) from None
