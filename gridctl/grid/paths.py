"""Paths: what became of the network between some origins and some engines. Data only."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class PathChange:
    """Round trips from the `origins`, shape `(n_origins,)`, to the `engines`, shape `(n_engines,)`, take `added_us`
    longer; or there is no way any more."""

    origins: NDArray[np.bool_]
    engines: NDArray[np.bool_]
    added_us: int = 0
    is_lost: bool = False

    def of_origins(self, numbers: NDArray[np.int64]) -> PathChange:
        """The same for some of the origins."""
        return replace(self, origins=self.origins[numbers])
