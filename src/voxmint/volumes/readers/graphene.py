"""Bodies of a proofread segmentation: the roots that its graph's server gives for supervoxels at one moment.

CloudVolume can ask, too, but without a time limit, up to seven times with pauses of a minute, and where the answer is
short it leaves supervoxels among the bodies.
"""

from __future__ import annotations

import posixpath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxmint.errors import Cause
from voxmint.retry import FetchError
from voxmint.volumes.readers.web import Web


class Bodies:
    """Turns supervoxels into bodies.

    Parameters
    ----------
    metadata : GrapheneMetadata
        CloudVolume's, of the opened layer.
    moment : int
        Seconds since 1970.
    """

    def __init__(self, metadata: Any, moment: int) -> None:
        from cloudvolume.datasource.graphene.metadata import GrapheneApiVersion

        path = GrapheneApiVersion("v1").path(metadata.server_path)
        url = posixpath.join(metadata.base_path, path, "roots_binary")
        headers = {**metadata.auth_header, "Accept-Encoding": "identity"}
        self._web = Web(url, f"timestamp={moment}", headers=headers)
        self._layer_shift, self._top = np.uint64(64 - metadata.n_bits_for_layer_id), np.uint64(metadata.n_layers)

    def of(self, supervoxels: NDArray[Any]) -> NDArray[np.uint64]:
        """Return the body of each supervoxel; 0 stays 0.

        Raises
        ------
        FetchError
            The server refuses or does not answer. Never missing: what nobody knows is not absent.
        """
        ids, places = np.unique(supervoxels.astype(np.uint64, copy=False), return_inverse=True)
        asked = (ids != 0) & (ids >> self._layer_shift != self._top)  # bodies may lie among supervoxels
        if asked.any():
            ids[asked] = self._roots(ids[asked])
        return np.asfortranarray(ids[places].reshape(supervoxels.shape))

    def _roots(self, ids: NDArray[np.uint64]) -> NDArray[np.uint64]:
        try:
            answer = self._web.get("", ids.nbytes, data=ids.astype("<u8").tobytes())
        except FetchError as error:
            cause: Cause = "forbidden" if error.cause == "forbidden" else "unreadable"
            failure = FetchError(cause, f"the server of the graph gave no roots: {error.detail}")
        else:
            if len(answer) == ids.nbytes:
                return np.frombuffer(answer, "<u8")
            failure = FetchError("unreadable", f"the server of the graph gave {len(answer)} bytes for {len(ids)} "
                                               "supervoxels")  # fmt: skip
        raise failure
