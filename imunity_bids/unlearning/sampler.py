"""Which samples are in which batch: a function of seed and step, so that a resumed run sees what it would have seen."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from imunity_bids.errors import Usage


class EvenBatches:
    """Batches with the same number of samples of every group (site), or one more of some.

    Each group is walked through in an order of its own, anew when it ends: small groups are oversampled
    (section 2.4.4). Even shares matter: a classifier that knows nothing then says "uniform", which is what
    equation 3 asks for.

    Parameters
    ----------
    groups
        Group number of each sample, (n,).
    size
        Samples in a batch.
    seed
        Of the orders.
    members
        Numbers of the samples to draw from; all without it.

    Raises
    ------
    Usage
        There are more groups than places in a batch.
    """

    def __init__(self, groups: Tensor, size: int, seed: int, members: Tensor | None = None):
        members = torch.arange(len(groups)) if members is None else members
        present = groups[members].unique()
        if not len(present):
            raise Usage("there is no sample to draw from: every label is missing")
        if len(present) > size:
            raise Usage(
                f"{len(present)} sites do not fit into a batch of {size}, which has to hold one sample of each: "
                f"give --batch {len(present)} or more"
            )
        self.walks = [_Walk(members[groups[members] == group], seed, number) for number, group in enumerate(present)]
        self.size = size

    def __call__(self, step: int) -> Tensor:
        """Numbers of the samples of batch `step` = 0, 1, …, (size,)."""
        count = len(self.walks)
        share, rest = divmod(self.size, count)
        extra = {(step + offset) % count for offset in range(rest)}
        parts = []
        for number, walk in enumerate(self.walks):
            parts.append(walk(step * share, share))
            if number in extra:
                parts.append(walk.extra(step))
        return torch.cat(parts)

    @property
    def epoch(self) -> int:
        """Batches until the largest group has been seen."""
        return -(-max(len(walk.members) for walk in self.walks) * len(self.walks) // self.size)


class PlainBatches:
    """Batches as normal training draws them: all samples in a random order, whatever their site."""

    def __init__(self, count: int, size: int, seed: int):
        self.walk, self.size = _Walk(torch.arange(count), seed, 0), min(size, count)

    def __call__(self, step: int) -> Tensor:
        """Numbers of the samples of batch `step`, (size,)."""
        return self.walk(step * self.size, self.size)


class _Walk:
    """An endless walk over `members`, each round in a new order."""

    def __init__(self, members: Tensor, seed: int, number: int):
        self.members, self.seed, self.number = members, seed, number

    def __call__(self, start: int, count: int) -> Tensor:
        """Places start … start + count − 1 of the walk."""
        places = range(start, start + count)
        orders = {turn: self._order(turn) for turn in {place // len(self.members) for place in places}}
        chosen = [int(orders[place // len(self.members)][place % len(self.members)]) for place in places]
        return self.members[torch.tensor(chosen, dtype=torch.long)]

    def extra(self, step: int) -> Tensor:
        """One member by chance."""
        return self.members[int(np.random.default_rng((self.seed, self.number, 1, step)).integers(len(self.members)))][
            None
        ]

    def _order(self, turn: int) -> np.ndarray:
        return np.random.default_rng((self.seed, self.number, 0, turn)).permutation(len(self.members))
