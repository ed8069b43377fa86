"""Credentials: where they are found, and keeping them out of every message."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxmint.errors import InputError, StorageError

_HIDDEN = "***"
# userinfo of a URL, the query's signature-like values, header values and PEM keys, wherever a message quotes them
_PATTERNS = (
    # a password may have slashes in it; what has a port and an @ in its path has none
    (re.compile(r"(\w:/+)[^/\s@:'\"]*:(?!\d+/)[^\s@'\"]*@"), r"\1***@"),
    (re.compile(r"(\w:/+)[^/\s@'\"]+@"), r"\1***@"),
    (re.compile(r"([?&][^=&\s'\"]+=)[^&\s'\"]+"), r"\1***"),
    (re.compile(r"(?i)((?:x-(?:amz|goog)-[\w-]+|signature|token|password)=)[^&\s'\"]+"), r"\1***"),
    (re.compile(r"(?i)(authorization['\"]?\s*[:=]\s*['\"]?(?:(?:basic|bearer)\s+)?)[^\s'\",]+"), r"\1***"),
    (re.compile(r"(?i)(bearer\s+)[\w.~+/=-]{8,}"), r"\1***"),
    (re.compile(r"-----BEGIN[^-]*KEY-----.*?(-----END[^-]*KEY-----|$)", re.DOTALL), _HIDDEN),
)
_LONG_ENOUGH = 4  # shorter values are no secrets, and hiding them would garble a message


@dataclass(frozen=True, repr=False)
class Secrets:
    """The content of a JSON file of credentials.

    Attributes
    ----------
    path : Path
        The file; may be shown.
    values : dict
        Its content; never shown: not by ``repr`` and not in errors.
    """

    path: Path
    values: dict[str, Any]

    @classmethod
    def load(cls, path: str | Path) -> Secrets:
        """Read a JSON object.

        Raises
        ------
        InputError
            The file cannot be read or holds no JSON object. The message quotes none of it.
        """
        path = Path(path).expanduser().absolute()
        remedy = "give the JSON file of a service account, of AWS keys, of a CAVE token or of an HTTP user"
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            cause = error.strerror if isinstance(error, OSError) else "not text"
            raise InputError(f"the secrets file cannot be read: {cause}", where=path, remedy=remedy) from None
        try:
            values = json.loads(text)
        except ValueError:
            values = None
        if not isinstance(values, dict):
            raise InputError("the secrets file is not a JSON object", where=path, remedy=remedy)
        return cls(path, values)

    def opens(self, scheme: str) -> bool:
        """Tell whether these are credentials for buckets of a kind, ``gs`` or ``s3``."""
        return {"gs": "type", "s3": "AWS_ACCESS_KEY_ID"}.get(scheme) in self.values

    def scrub(self, text: str) -> str:
        """Return ``text`` without any of the values, nor what `scrub` hides."""
        for value in sorted(_strings(self.values), key=len, reverse=True):
            text = text.replace(value, _HIDDEN)
        return scrub(text)

    def __repr__(self) -> str:
        return f"Secrets({str(self.path)!r})"


def scrub(text: str) -> str:
    """Return a message without passwords and tokens in URLs, authorization headers and private keys."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def public_url(url: str) -> str:
    """Return a URL without user, password and query: safe to show and to record."""
    if "://" not in url:
        return scrub(url)
    schemes, separator, rest = re.split(r"[?#]", url, maxsplit=1)[0].rpartition("://")
    host, slash, path = without_user(rest).partition("/")
    # what looks like a key and its secret without a bucket behind it
    host = host if host.startswith("[") or re.fullmatch(r"[^:]*(:\d*)?", host) else _HIDDEN
    return f"{scrub(schemes)}{separator}{host}{slash}{path}"


def check_bucket_address(url: str) -> None:
    """Raise `StorageError` if the address of a bucket holds what is secret, or would become a part of names there."""
    kept = re.split(r"[?#]", url, maxsplit=1)[0]
    if kept != url or without_user(kept.partition("://")[2]) != kept.partition("://")[2] or (
        ":" in kept.partition("://")[2].partition("/")[0]
    ):  # fmt: skip
        raise StorageError("the address of a bucket holds credentials or a query", where=public_url(url),
                           expected="gs://bucket/path or s3://bucket/path",
                           remedy="leave them out and give credentials as a secrets file (--secrets)")  # fmt: skip


def without_user(rest: str) -> str:
    """Return a host and path, or a bucket and path, without user and password; these may have slashes."""
    host, slash, path = rest.partition("/")
    if "@" in host:
        host = host.rpartition("@")[2]
    elif ":" in host and not host.startswith("[") and not host.rpartition(":")[2].isdigit() and "@" in path:
        return path.rpartition("@")[2]
    return f"{host}{slash}{path}"


def saved_secrets(scheme: str, bucket: str) -> Secrets | None:
    """Return the credentials that CloudVolume's own folder holds for a bucket, None when there are none.

    Parameters
    ----------
    scheme : {"gs", "s3", "http", "https"}
        Protocol of the address.
    bucket : str
        Its bucket; a file named after it comes before the general one.
    """
    home = Path(os.environ.get("CLOUD_VOLUME_DIR") or Path.home() / ".cloudvolume")
    kind = {"gs": "google", "s3": "aws"}.get(scheme, "http")
    for name in (f"{bucket}-{kind}-secret.json", f"{kind}-secret.json"):
        path = home / "secrets" / name
        if path.is_file():
            return Secrets.load(path)
    return None


def _strings(values: Any) -> set[str]:
    if isinstance(values, dict):
        # names of accounts, projects and regions are what a message needs to be useful
        return set().union(*(_strings(v) for k, v in values.items() if not _PUBLIC.search(str(k))), set())
    if isinstance(values, list):
        return set().union(*(_strings(v) for v in values), set())
    text = str(values)
    return {text} if len(text) >= _LONG_ENOUGH else set()


_PUBLIC = re.compile(r"(?i)^(type|.*_uri|.*_url|universe_domain|.*region.*|endpoint.*)$")
