"""Whether a bucket can be reached at all, asked before clients that would try for minutes and say so at length."""

from __future__ import annotations

import logging
import os
import socket
import threading
from concurrent.futures import Future, wait
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from voxmint.retry import FetchError, patiently

_PATIENCE_S = 12.0
_CONNECT_S = 4.0
_METADATA_S = 1.0
_ATTEMPTS = 3
_ENDPOINTS = {
    "gs": ("STORAGE_EMULATOR_HOST", "TENSORSTORE_GCS_HTTP_URL"),
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
}
_LOGGERS = ("gcsfs", "s3fs", "fsspec", "aiobotocore", "botocore", "google.auth", "google.api_core", "urllib3")


def check_route(scheme: str, bucket: str) -> None:
    """Raise `FetchError` if the servers of a ``gs`` or ``s3`` bucket cannot be connected to."""
    if scheme not in _ENDPOINTS:
        return
    _quiet()
    given = next((os.environ[name] for name in _ENDPOINTS[scheme] if os.environ.get(name)), "")
    if not given and (getproxies() or (scheme == "s3" and _aws_has_endpoint())):
        return  # a proxy looks names up, and connects, itself
    # a bucket's own name leads to the servers of its region, which may be the only ones within reach
    usual = "https://storage.googleapis.com" if scheme == "gs" else f"https://{bucket}.s3.amazonaws.com"
    patiently(lambda: _reach(given or usual), _ATTEMPTS, _PATIENCE_S)


def _aws_has_endpoint() -> bool:
    """Tell whether a file of settings names other servers than Amazon's."""
    file = Path(os.environ.get("AWS_CONFIG_FILE") or Path.home() / ".aws" / "config")
    try:
        return "endpoint_url" in file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


@lru_cache(maxsize=8)
def _reach(endpoint: str) -> None:
    """Connect once a process; what fails is asked again."""
    parts = urlsplit(endpoint if "://" in endpoint else f"http://{endpoint}")
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    failure = _connect(host, port, _CONNECT_S)
    if failure:
        raise FetchError("unreadable", f"no connection to {host}, port {port}: {failure}")


def on_google() -> bool:
    """Tell whether this machine has a server of credentials, as those in Google's cloud do."""
    if os.environ.get("NO_GCE_CHECK") == "true":
        return False
    host, _, port = os.environ.get("GCE_METADATA_HOST", "169.254.169.254").partition(":")
    return not _connect(host, int(port or 80), _METADATA_S)


def _connect(host: str, port: int, seconds: float) -> str:
    """Return why no connection can be had in time, '' if one can; looking a name up has no time limit of its own."""
    outcome: Future[str] = Future()

    def work() -> None:
        try:
            socket.create_connection((host, port), timeout=seconds).close()
        except OSError as error:
            outcome.set_result(error.strerror or str(error) or type(error).__name__)
        else:
            outcome.set_result("")

    threading.Thread(target=work, name="voxmint-connect", daemon=True).start()
    wait((outcome,), timeout=seconds)
    return outcome.result() if outcome.done() else f"no answer within {seconds:g} s"


@lru_cache(maxsize=1)
def _quiet() -> None:
    """Keep what these libraries log off standard error, where nobody has set up logging: errors are told once."""
    for name in _LOGGERS:
        logging.getLogger(name).addHandler(logging.NullHandler())
