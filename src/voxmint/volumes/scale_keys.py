"""Names that metadata give to folders, which must not lead out of their layer."""

from __future__ import annotations

from typing import Any

from voxmint.errors import LayerError


def leads_out(key: Any) -> bool:
    """Tell whether a name could be looked up anywhere but below the layer."""
    text = str(key)
    return not isinstance(key, str) or not text or text.startswith(("/", "~")) or "://" in text or "\\" in text or (
        ".." in text.split("/") or any(ord(sign) < 32 for sign in text)
    )  # fmt: skip


def check_key(key: Any, where: str | None = None) -> None:
    """Raise `LayerError` if the name of a scale's folder leads out of the layer."""
    if leads_out(key):
        raise LayerError("the layer's metadata lead out of the layer", where=where, got=f"key {str(key)[:200]!r}",
                         expected="a folder below it", remedy="do not trust its source")  # fmt: skip
