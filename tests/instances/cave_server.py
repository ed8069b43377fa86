"""A CAVE on the loopback: gives some of the rows that match, in no order, and never more than its limit."""

from __future__ import annotations

import json
import re
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

sys.path.append(str(Path(__file__).parents[1] / "volumes"))
from servers import Loopback

SIZE = (4.0, 4.0, 40.0)


class CaveServer(Loopback):
    """Serves one table of one datastack to ``caveclient``.

    Attributes
    ----------
    table : pyarrow.Table
        Its rows, with an ``id``.
    limit : int
        Most rows of an answer.
    claimed : int, optional
        How many rows it says there are, if not as many as there are.
    queries : list of dict
        What was asked for.
    tokens : set of str
        The Authorization headers seen.
    """

    def __init__(self, table: Any, limit: int) -> None:
        self.table, self.limit, self.claimed, self.status = table, limit, None, 200
        self.queries: list[dict[str, Any]] = []
        self.tokens: set[str] = set()
        self.random = np.random.Generator(np.random.Philox(key=7))
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.tokens.add(self.headers.get("Authorization", ""))
                self._send(*outer.told(self.path.partition("?")[0]))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self._send(*outer.rows(self.path.partition("?")[0], body))

            def _send(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        super().__init__(Handler)

    def told(self, path: str) -> tuple[int, str, bytes]:
        answers: dict[str, Any] = {
            r".*/datastack/full/toy": {"local_server": self.url, "aligned_volume": {"name": "v", "id": 1},
                                       "viewer_resolution_x": 4, "viewer_resolution_y": 4, "viewer_resolution_z": 40},
            r".*/materialize/version": "5.14.0",
            r".*/version": "4.0.0",
            r".*/api/versions": [2, 3],
            r".*/datastack/toy/versions": [2, 3],
            r".*/datastack/toy/version/3": {"version": 3, "valid": True, "time_stamp": "2026-01-01T00:00:00.0",
                                              "expires_on": "2036-01-01T00:00:00.0"},
            r".*/version/3/table/synapses/count": len(self.table) if self.claimed is None else self.claimed,
            r".*/version/3/table/synapses/metadata": {
                "reference_table": None, "voxel_resolution_x": SIZE[0], "voxel_resolution_y": SIZE[1],
                "voxel_resolution_z": SIZE[2]},
        }  # fmt: skip
        answer = next((answer for pattern, answer in answers.items() if re.fullmatch(pattern, path)), None)
        status = 404 if answer is None else self.status
        told = answer if status == 200 else {"error": "refused"}
        return status, "application/json", json.dumps(told).encode()

    def rows(self, path: str, body: dict[str, Any]) -> tuple[int, str, bytes]:
        self.queries.append(body)
        ids = self.table["id"].to_numpy()
        low = body["filter_greater_equal_dict"]["synapses"]["id"]
        high = body["filter_less_equal_dict"]["synapses"]["id"]
        match = self.random.permutation(np.flatnonzero((ids >= low) & (ids <= high)))
        chosen = self.table.take(match[: min(self.limit, body.get("limit", self.limit))])
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, chosen.schema) as writer:
            writer.write_table(chosen)
        return (200 if "/version/3/" in path else 404), "data.arrow", sink.getvalue().to_pybytes()
