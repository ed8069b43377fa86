"""How TensorStore reaches a place: its key-value store, credentials and limits."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

from voxmint.errors import LayerError
from voxmint.stores.secrets import Secrets, saved_secrets
from voxmint.volumes.address import Address
from voxmint.volumes.layer import Opening


def kvstore_of(address: Address, secrets: Secrets | None) -> dict[str, Any]:
    """Return the spec of the key-value store at an address."""
    place = address.place.rstrip("/") + "/"
    if address.scheme == "file":
        return {"driver": "file", "path": place}
    if address.scheme in ("http", "https"):
        query = f"?{address.query}" if address.query else ""
        store: dict[str, Any] = {"driver": "http", "base_url": f"{address.private_url}/{query}"}
        if secrets and {"user", "password"} <= set(secrets.values):
            pair = f"{secrets.values['user']}:{secrets.values['password']}".encode()
            store["headers"] = ["Authorization: Basic " + base64.b64encode(pair).decode()]
        return store
    bucket, _, path = place.partition("/")
    if address.scheme == "gs":
        return {"driver": "gcs", "bucket": bucket, "path": path}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    store = {"driver": "s3", "bucket": bucket, "path": path}
    if endpoint:
        store |= {"endpoint": endpoint, "aws_region": os.environ.get("AWS_DEFAULT_REGION", "us-east-1")}
    return store


def context_of(opening: Opening, address: Address, secrets: Secrets | None, cache_bytes: int) -> dict[str, Any]:
    """Return the spec of a context: limits, retries and kind of credentials."""
    # one policy of retries for all readers: TensorStore's own, up to 32 of them with pauses of 32 s, is switched off
    retries = {"max_retries": 1, "initial_delay": "10ms", "max_delay": "10ms"}
    limit = {"limit": opening.concurrency}
    context: dict[str, Any] = {"cache_pool": {"total_bytes_limit": cache_bytes}, "file_io_concurrency": limit}
    kind = {"gs": "gcs", "s3": "s3"}.get(address.scheme, "http")
    context |= {f"{kind}_request_concurrency": limit, f"{kind}_request_retries": retries}
    if address.scheme == "s3":
        known = secrets or any(os.environ.get(name) for name in _AWS_VARIABLES) or (
            Path.home() / ".aws" / "credentials").is_file()  # fmt: skip
        kind = "environment" if os.environ.get("AWS_ACCESS_KEY_ID") else "default" if known else "anonymous"
        context["aws_credentials"] = {"type": kind}
    return context


_AWS_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SHARED_CREDENTIALS_FILE",
                  "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI")  # fmt: skip


def secrets_for(opening: Opening, address: Address) -> Secrets | None:
    """Return the credentials and hand them to TensorStore, which takes those of buckets from the environment only."""
    if address.scheme == "file":
        return None
    secrets = Secrets.load(opening.secrets) if opening.secrets else saved_secrets(address.scheme, address.bucket)
    if secrets is None:
        return None
    wanted: dict[str, str] = {}
    if address.scheme == "gs":
        wanted = {"GOOGLE_APPLICATION_CREDENTIALS": str(secrets.path)}
    elif address.scheme == "s3":
        wanted = {name: str(value) for name, value in secrets.values.items() if name.startswith("AWS_") and value}
    for name, value in wanted.items():
        if opening.secrets is None and os.environ.get(name):
            continue  # what the environment says goes before a folder nobody named
        if os.environ.setdefault(name, value) != value:
            raise LayerError("TensorStore knows one set of credentials a process, and another is in use",
                             where=address.url, got=f"{name} is already set to another value",
                             remedy="choose the reader cloudvolume for this layer")  # fmt: skip
    return secrets
