"""Bearer tokens: where they are looked for, how they are compared, what happens when their file changes."""

import logging
import os
import stat

import pytest

from memory_runtime.access import Authenticator, TokenSource, laptop_token_file, presented_token
from memory_runtime.model.errors import PermissionDenied, Unauthenticated
from memory_runtime.settings import SettingsError, SMFSettings

TOKEN = "s3cret-of-the-test"


def authenticator(tmp_path, **settings):
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    clock = [0.0]
    source = TokenSource(SMFSettings(api_token_file=path, **settings), clock=lambda: clock[0])
    return Authenticator(source, disabled=False), path, clock


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ({"authorization": "Bearer abc"}, "abc"),
        ({"authorization": "bearer  abc "}, "abc"),
        ({"x-api-key": "abc"}, "abc"),
        ({"x-auth-token": " abc "}, "abc"),
        ({"authorization": "Basic abc", "x-api-key": "def"}, "def"),
        ({"authorization": "Bearer ", "x-auth-token": "def"}, "def"),
        ({"authorization": "abc"}, None),
        ({}, None),
    ],
)
def test_token_is_taken_from_any_of_the_three_headers(headers, token):
    assert presented_token(headers) == token


def test_missing_token_is_unauthenticated_and_a_wrong_one_as_the_era_says(tmp_path):
    door, _, _ = authenticator(tmp_path)
    door.check({"x-api-key": TOKEN})
    with pytest.raises(Unauthenticated, match="Missing bearer token"):
        door.check({}, wrong_is_forbidden=True)
    with pytest.raises(PermissionDenied, match="Invalid token"):
        door.check({"authorization": "Bearer nope"}, wrong_is_forbidden=True)
    with pytest.raises(Unauthenticated, match="Invalid token"):
        door.check({"authorization": "Bearer nope"})


def test_a_token_that_is_no_text_is_wrong_and_does_not_crash(tmp_path):
    door, _, _ = authenticator(tmp_path)
    with pytest.raises(Unauthenticated):
        door.check({"x-api-key": b"\xff\xfe".decode("utf-8", "surrogateescape")})


def test_rotated_token_file_is_read_again_and_the_old_token_stops_working(tmp_path):
    door, path, clock = authenticator(tmp_path)
    path.write_text("the-next-token\n")
    os.utime(path, ns=(1, 1))
    clock[0] = 1.5
    door.check({"x-api-key": "the-next-token"})
    with pytest.raises(Unauthenticated):
        door.check({"x-api-key": TOKEN})


@pytest.mark.parametrize("damage", ["empty", "gone"])
def test_half_rotated_token_file_keeps_the_last_good_token_and_says_so(tmp_path, caplog, damage):
    door, path, clock = authenticator(tmp_path)
    path.write_text("") if damage == "empty" else path.unlink()
    clock[0] = 2.0
    with caplog.at_level(logging.WARNING):
        door.check({"x-api-key": TOKEN})
    assert "last good token" in caplog.text
    assert TOKEN not in caplog.text


def test_server_without_a_token_refuses_unless_that_is_said():
    with pytest.raises(SettingsError, match="SOMA_AUTH_DISABLED"):
        Authenticator(TokenSource(SMFSettings()), disabled=False)
    Authenticator(TokenSource(SMFSettings(auth_disabled=True)), disabled=True).check({})


def test_laptop_token_is_made_once_readable_by_its_owner_only(tmp_path):
    path = laptop_token_file(tmp_path / "data")
    first = path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(first.strip()) >= 32
    assert laptop_token_file(tmp_path / "data").read_text() == first
    assert [p.name for p in (tmp_path / "data").iterdir()] == [path.name]


def test_laptop_token_that_others_may_read_is_refused_with_the_remedy(tmp_path):
    path = laptop_token_file(tmp_path)
    path.chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        laptop_token_file(tmp_path)
