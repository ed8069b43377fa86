"""Credentials never reach a message."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from voxmint.errors import InputError
from voxmint.stores.secrets import Secrets, public_url, saved_secrets, scrub

KEY = "wJalrXUtnFEMIexample"


def test_no_value_of_a_secrets_file_is_ever_shown(tmp_path: Path) -> None:
    """Neither by repr nor in a message that a client composed."""
    path = tmp_path / "aws-secret.json"
    path.write_text(json.dumps({"AWS_SECRET_ACCESS_KEY": KEY, "nested": {"list": ["anotherone"]}}))
    secrets = Secrets.load(path)
    assert KEY not in repr(secrets)
    said = secrets.scrub(f"signature mismatch for {KEY} and anotherone in bucket")
    assert said == "signature mismatch for *** and *** in bucket"


@pytest.mark.parametrize("content", ["{" + KEY, f'["{KEY}"]', f'"{KEY}"', b"\xff\xfe"])
def test_a_broken_secrets_file_is_not_quoted(tmp_path: Path, content: str | bytes) -> None:
    """The error names the file only."""
    path = tmp_path / "secret.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        Secrets.load(path)
    assert KEY not in str(caught.value)
    assert "secret.json" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        f"GET https://user:{KEY}@host/path failed",
        f"https://host/path?token={KEY}&x=1: 403",
        f"https://host/path?x=1&X-Amz-Signature={KEY}",
        f"headers {{'Authorization': 'Bearer {KEY}'}}",
        f"Authorization: Basic {KEY}",
        f"-----BEGIN PRIVATE KEY-----\n{KEY}\n-----END PRIVATE KEY-----",
    ],
)
def test_tokens_are_scrubbed(text: str) -> None:
    """Wherever a client quotes them."""
    assert KEY not in scrub(text)


def test_ordinary_messages_stay_as_they_are() -> None:
    """Else nobody could mend anything."""
    text = "NOT_FOUND: chunk {0, 0, 0} stored at gs://bucket/layer/5-37_-7-25_11-27 is missing"
    assert scrub(text) == text


def test_a_public_url_has_no_user_no_query_and_no_fragment() -> None:
    """Paths stay as they are."""
    assert public_url("https://me:pw@host:80/a/b?token=x#y") == "https://host:80/a/b"
    assert public_url("https://host/a#token=x") == "https://host/a"
    assert public_url("gs://bucket/a") == "gs://bucket/a"
    assert public_url("/a/b?c") == "/a/b?c"


def test_the_folder_of_cloudvolume_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket's own file goes before the general one."""
    (tmp_path / "secrets").mkdir()
    monkeypatch.setenv("CLOUD_VOLUME_DIR", str(tmp_path))
    assert saved_secrets("gs", "mine") is None
    for name in ("google-secret.json", "mine-google-secret.json"):
        (tmp_path / "secrets" / name).write_text("{}")
    for bucket, name in (("mine", "mine-google-secret.json"), ("other", "google-secret.json")):
        found = saved_secrets("gs", bucket)
        assert found is not None
        assert found.path.name == name


def test_a_value_that_begins_another_one_hides_all_of_it(tmp_path: Path) -> None:
    """Of the longer one nothing is left behind."""
    path = tmp_path / "secrets.json"
    path.write_text(json.dumps({"key": KEY, "secret": f"{KEY}/and-the-rest"}))
    assert "rest" not in Secrets.load(path).scrub(f"refused: {KEY}/and-the-rest")
