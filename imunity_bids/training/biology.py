"""The biological module (Cackowski 2023, section 2.2.3): heads that tell biological features from the anatomy code.

Equation 3 is a binary cross-entropy, since the paper's features are binary or made so; here categories have a
cross-entropy, and numbers (the paper's age) a squared error.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imunity_bids.errors import Usage
from imunity_bids.models.heads import CodeHead
from imunity_bids.training.dataset import Brain

MISSING = ("", "n/a", "nan")
FEW = 5  # numbers with no more distinct values than this are categories
UNKNOWN = -1


@dataclass(frozen=True)
class Feature:
    """One column of participants.tsv for all brains (N)."""

    name: str
    classes: int  # 0: continuous
    values: Tensor  # class numbers, UNKNOWN where missing; or mean 0 and deviation 1, NaN where missing


def read_feature(name: str, brains: list[Brain]) -> Feature:
    """A column as numbers; binary, categorical or continuous, as its values show.

    Raises
    ------
    Usage
        No brain has it, or all have the same.
    """
    given = [brain.traits.get(name, "").strip() for brain in brains]
    known = sorted({value for value in given if value.lower() not in MISSING})
    if len(known) < 2:
        raise Usage(
            f"--biology {name}: participants.tsv has {len(known)} different values of it; two are needed at least"
        )
    if len(known) > FEW and all(_is_number(value) for value in known):
        values = torch.tensor([float(v) if v in known else torch.nan for v in given])
        given_numbers = values[~values.isnan()]
        return Feature(name, 0, (values - given_numbers.mean()) / given_numbers.std())
    return Feature(name, len(known), torch.tensor([known.index(v) if v in known else UNKNOWN for v in given]))


class BiologicalHeads(nn.Module):
    """One head per feature on the mean of the anatomy code, trained together with the encoder."""

    def __init__(self, features: list[Feature], code_shape: tuple[int, int, int]):
        super().__init__()
        self.features = features
        self.heads = nn.ModuleList(CodeHead(code_shape, feature.classes or 1) for feature in features)

    def forward(self, code: Tensor, brains: Tensor) -> Tensor:
        """Sum over features of cross-entropy or squared error; code (B, C, h, w) of the brains with these numbers."""
        total = code.new_zeros(())
        for feature, head in zip(self.features, self.heads, strict=True):
            values = feature.values[brains].to(code.device)
            known = values != UNKNOWN if feature.classes else ~values.isnan()
            if not known.any():
                continue
            prediction = head(code)[known]
            if feature.classes:
                total = total + F.cross_entropy(prediction, values[known])
            else:
                total = total + F.mse_loss(prediction[:, 0], values[known])
        return total


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
