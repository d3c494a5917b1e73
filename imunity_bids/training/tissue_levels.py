"""Tissue levels, a term of the loss that is ours: codes must tell how bright CSF and gray matter are in their slice.

White-striped images differ above all in these two levels, which training knows, since it made the contrasts. Asked for
them directly, the encoders learn in hundreds of steps what the images alone teach them in thousands.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from imunity_bids.models.imunity import mean_in_brain
from imunity_bids.training.pairs import Batch, Example

WIDTH = 0.05  # of a tissue's intensities in the unchanged slice
ENOUGH = 40  # pixels of a tissue


class LevelHeads(nn.Module):
    """A linear head on the mean anatomy code for S1, another on the contrast code for S2; only training has them."""

    def __init__(self, channels: int):
        super().__init__()
        self.anatomy, self.contrast = (nn.Linear(channels, 2) for _ in range(2))

    def forward(self, anatomy: Tensor, contrast: Tensor, batch: Batch, slices: Example) -> Tensor:
        """Mean absolute error of the levels in S1 and S2 as the encoders saw them; codes (B, C, h, w)."""
        errors = []
        for head, code, native, seen in (
            (self.anatomy, anatomy, batch.s1, slices.seen),
            (self.contrast, contrast, batch.s2, slices.reference),
        ):
            levels, known = tissue_levels(native.to(seen.device), seen, batch.tissue_means.to(seen.device))
            code = code if code.shape[-1] == 1 else mean_in_brain(code, seen)
            errors.append((head(code.flatten(1)) - levels).abs()[known].mean())
        return torch.stack(errors).nanmean()


def tissue_levels(native: Tensor, seen: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
    """Mean intensity of CSF and gray matter in a slice whose contrast was changed, and where there is enough of it.

    Parameters
    ----------
    native, seen
        The slice before and after, (B, 1, H, W).
    means
        Of the two tissues in the unchanged brain, (B, 2).
    """
    weight = torch.exp(-(((native - means[:, :, None, None]) / WIDTH) ** 2)) * (native > 0)
    total = weight.sum(dim=(2, 3))
    return (weight * seen).sum(dim=(2, 3)) / total.clamp(min=1), total > ENOUGH
