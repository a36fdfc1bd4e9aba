"""Static bearer tokens: where they come from, and the comparison that tells nothing by its duration."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from memory_runtime.model.errors import PermissionDenied, Unauthenticated, Unavailable
from memory_runtime.settings import SettingsError, SMFSettings

log = logging.getLogger(__name__)

HEADERS = ("authorization", "x-api-key", "x-auth-token")
LAPTOP_TOKEN_NAME = "api-token"  # noqa: S105 -- a file's name
_REMEDY = "send the header `Authorization: Bearer <token>`"


def presented_token(headers: Mapping[str, str]) -> str | None:
    """The first token among the three headers that clients use; header names in lower case.

    `Authorization` counts only with the scheme Bearer: another scheme is no token of ours.
    """
    for name in HEADERS:
        value = headers.get(name, "").strip()
        if name == "authorization":
            scheme, _, value = value.partition(" ")
            value = value.strip() if scheme.lower() == "bearer" else ""
        if value:
            return value
    return None


def laptop_token_file(data_dir: Path) -> Path:
    """A token file of mode 0600 in the data directory, made on first use: what a bare `soma serve` is protected by.

    Raises SettingsError when the directory cannot be written or others can read the file.
    """
    path = data_dir / LAPTOP_TOKEN_NAME
    remedy = "choose a writable directory with --data-dir or SOMA_DATA_DIR"
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write_once(path)
        loose = path.stat().st_mode & 0o077
    except OSError as error:
        message = f"data_dir: cannot keep a token in {data_dir}: {error.strerror}"
        raise SettingsError(message, setting="data_dir", remedy=remedy) from None
    if loose:
        message = f"api_token_file: others may read {path}"
        raise SettingsError(message, setting="api_token_file", remedy=f"run `chmod 600 {path}`")
    return path


def _write_once(path: Path) -> None:
    if path.exists():
        return
    # Linked into place whole: a reader never meets an empty token, and of two servers that start at once one wins.
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        draft.unlink(missing_ok=True)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


class TokenSource:
    """The digests that are accepted now. A token file is looked at once a second and read again when it changed.

    A file that has become unreadable or empty keeps the last good token: a rotation half-way locks nobody out, and
    the log says so. Only digests are kept.
    """

    def __init__(self, settings: SMFSettings, *, clock: Callable[[], float] = time.monotonic, every: float = 1.0):
        self._settings = settings
        self._clock = clock
        self._every = every
        self._digest: bytes | None = None
        self._stamp: tuple[int, int, int] | None = None
        self._looked = -float("inf")
        self._complained = False
        token = settings.read_api_token()
        if token is not None:
            self._digest = _digest(token.get_secret_value())
            self._stamp = self._file_stamp()

    @property
    def configured(self) -> bool:
        """Whether there is a token at all."""
        return self._digest is not None

    def current(self) -> bytes | None:
        """The SHA-256 digest of the token in force."""
        if self._settings.api_token_file is not None and self._clock() - self._looked >= self._every:
            self._looked = self._clock()
            self._read_again()
        return self._digest

    def _read_again(self) -> None:
        stamp = self._file_stamp()
        if stamp is not None and stamp == self._stamp:
            return
        try:
            token = self._settings.read_api_token()
        except SettingsError as error:
            if not self._complained:
                log.warning("token file unusable, the last good token stays in force", extra={"reason": str(error)})
            self._complained = True
            return
        self._complained = False
        self._stamp = stamp
        if token is not None:
            fresh = _digest(token.get_secret_value())
            if fresh != self._digest:
                log.info("the token was rotated")
            self._digest = fresh

    def _file_stamp(self) -> tuple[int, int, int] | None:
        path = self._settings.api_token_file
        try:
            # stat follows the links that a mounted Secret is made of, so the inode changes with a rotation.
            status = path.stat() if path is not None else None
        except OSError:
            return None
        return (status.st_ino, status.st_mtime_ns, status.st_size) if status is not None else None


class Authenticator:
    """Decides whether a presented token opens the door; fails closed."""

    def __init__(self, source: TokenSource, *, disabled: bool) -> None:
        """Raises SettingsError when there is no token and nobody said that none is wanted."""
        if not source.configured and not disabled:
            raise SettingsError(
                "api_token: no token is configured and a server without one is open to everybody",
                setting="api_token",
                remedy="set SOMA_API_TOKEN_FILE or SOMA_API_TOKEN, or say SOMA_AUTH_DISABLED=true if that is meant",
            )
        self._source = source
        self._disabled = disabled

    def check(self, headers: Mapping[str, str], *, wrong_is_forbidden: bool = False) -> None:
        """Returns for an accepted caller; header names in lower case.

        Raises Unauthenticated without a token, and for a wrong one Unauthenticated or, as the oldest routes did,
        PermissionDenied.
        """
        if self._disabled:
            return
        expected = self._source.current()
        if expected is None:
            raise Unavailable("no token is configured", remedy="ask the operator of this service")
        token = presented_token(headers)
        if token is None:
            raise Unauthenticated("Missing bearer token", field="authorization", remedy=_REMEDY)
        if not hmac.compare_digest(_digest(token), expected):
            kind = PermissionDenied if wrong_is_forbidden else Unauthenticated
            raise kind("Invalid token", field="authorization", remedy="check the token: it may have been rotated")
