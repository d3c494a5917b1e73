"""The biological module (Cackowski 2023, section 2.2.3): heads that tell biological features from the anatomy code.

Equation 3 is a binary cross-entropy, since the paper's features are binary or made so; here categories have a
cross-entropy, and numbers (the paper's age) a squared error: each feature is a task as those of `unlearning`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
from torch import Tensor, nn

from imunity_bids.training.dataset import Brain
from imunity_bids.unlearning.networks import DenseHead
from imunity_bids.unlearning.scans import stated
from imunity_bids.unlearning.tasks import Task, column_task

FEW = 5  # numbers with no more distinct values than this are categories


class Feature(NamedTuple):
    """One column of participants.tsv for all brains (N)."""

    task: Task
    values: Tensor  # targets of the task, (N,); anything where they are missing
    known: Tensor  # (N,) bool


def read_feature(name: str, brains: Sequence[Brain]) -> Feature:
    """A column as numbers; binary, categorical or continuous, as its values show.

    Raises
    ------
    Usage
        No brain has it, or all have the same.
    """
    given = [stated(brain.traits, name) for brain in brains]
    values = pd.to_numeric(pd.Series(list({value for value in given if value})), errors="coerce")
    kind = "regression" if len(values) > FEW and values.notna().all() else "classification"
    return Feature(*column_task(name, kind, given, "--biology"))


class BiologicalHeads(nn.Module):
    """One head per feature on the mean of the anatomy code, `inputs` numbers, trained together with the encoder."""

    def __init__(self, features: Sequence[Feature], inputs: int):
        super().__init__()
        self.features = features
        self.heads = nn.ModuleList(DenseHead(inputs, feature.task.outputs) for feature in features)

    def forward(self, code: Tensor, brains: Tensor) -> Tensor:
        """Sum over features of cross-entropy or squared error; code (B, C, h, w) of the brains with these numbers."""
        total = code.new_zeros(())
        for feature, head in zip(self.features, self.heads, strict=True):
            those = feature.known[brains]
            if those.any():
                values = feature.values[brains][those].to(code.device)
                total = total + feature.task.loss(head(code[those.to(code.device)]), values).mean()
        return total
