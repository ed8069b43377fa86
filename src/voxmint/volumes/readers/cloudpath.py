"""How CloudVolume reaches a place: its paths, whether credentials are needed, and how often it may ask."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

from voxmint.errors import LayerError
from voxmint.stores.secrets import saved_secrets
from voxmint.volumes.address import Address


class _OurPolicy:
    """Lets cloud-files ask once for what layers read: the pauses between its seven times add up to minutes."""

    def __init__(self, usual: Any) -> None:
        self.usual = usual
        self.paths: set[Any] = set()

    def __call__(self, state: Any) -> bool:
        return getattr(state.args[0], "_path", None) in self.paths or bool(self.usual(state))


def prepare(address: Address, path: str) -> None:
    """Adjust what cloud-files decides for a whole process, without change for other users of it."""
    if not path.startswith(("gs://", "s3://")):
        return
    if address.scheme == "s3" and os.environ.get("AWS_ACCESS_KEY_ID"):
        os.environ.setdefault("AWS_SESSION_TOKEN", "")  # cloud-files fails without it; empty means none
    from cloudfiles import interfaces, paths

    for interface in (interfaces.GoogleCloudStorageInterface, interfaces.S3Interface):
        retry = getattr(interface.get_file, "retry", None)
        if retry is None:
            continue  # a version without it: its own patience is bounded, too
        if not isinstance(retry.stop, _OurPolicy):
            retry.stop = _OurPolicy(retry.stop)
        retry.stop.paths.add(paths.extract(path))


def cloudpath(address: Address) -> str:
    """Return an address as CloudVolume writes it."""
    prefix = {"zarr": "zarr2", "precomputed": "precomputed"}.get(address.format, address.format)
    return f"{prefix}://{address.scheme}://{address.place}"


def with_user(url: str, address: Address) -> str:
    """Return a URL with the user and password of the address, which CloudVolume does not get to see."""
    return f"{address.private_url.partition('@')[0]}@{url.partition('://')[2]}" if address.user else url


def https_of(path: str) -> str:
    """Return the public HTTPS address of a bucket's."""
    from cloudvolume.paths import to_https_protocol

    return cast(str, to_https_protocol(path))


def is_anonymous(scheme: str, bucket: str) -> bool:
    """Tell whether there are no credentials for a bucket: public ones are then read over HTTPS, which needs none."""
    if scheme not in ("gs", "s3") or saved_secrets(scheme, bucket):
        return False
    names: tuple[str, ...]
    if scheme == "s3":
        names, files = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_ENDPOINT_URL"), (".aws/credentials",)
    else:
        names = ("GOOGLE_APPLICATION_CREDENTIALS", "STORAGE_EMULATOR_HOST")
        files = (".config/gcloud/application_default_credentials.json",)
    return not any(os.environ.get(n) for n in names) and not any((Path.home() / f).is_file() for f in files)


def below_the_graph(volume: Any) -> str:
    """Return where the supervoxels of a graphene layer lie, and have them read as any layer of such a place is.

    CloudVolume would show the token of the graph to the bucket below it, too.
    """
    volume.config.secrets = None
    scheme, _, place = str(volume.meta.cloudpath).removeprefix("precomputed://").partition("://")
    volume.meta.use_https = is_anonymous(scheme, place.partition("/")[0])
    return str(volume.meta.cloudpath).removeprefix("precomputed://").rstrip("/")


def timestamp_of(address: Address) -> int:
    """Return the moment of a proofread segmentation; without one, two workers would see two segmentations."""
    text = address.option("timestamp")
    if text is None or not text.isdigit():
        raise LayerError("a graphene layer changes as it is proofread", where=address.url, expected="a moment to read",
                         got=text, remedy="add ?timestamp=SECONDS (since 1970) to its address")  # fmt: skip
    return int(text)
