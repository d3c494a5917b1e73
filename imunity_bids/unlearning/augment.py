"""Every time that a sample is drawn it looks a little different, so that nobody can be learned by heart.

What is forgotten of the few persons that a training has is otherwise forgotten of them alone. The changes are
geometric alone: contrast stays, since it is what tells the site, and noise would only hide it from the classifier.

The whole batch is sampled at once. MONAI's transforms take one sample after the other, which on volumes of 8 mm takes
longer than the training step itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from imunity_bids.unlearning.samples import Samples

NODES = 4  # per axis, of the smooth warp


@dataclass(frozen=True)
class Poses:
    """Random poses, mirror images and warps of batches of images; all by torch's own generator, which `fit` seeds.

    Parameters
    ----------
    spacing_mm
        Of the voxels.
    degrees, shift_mm, scale
        Standard deviations of rotations, shifts, and relative size.
    warp_mm
        Of the nodes of a smooth deformation.
    share
        Of the samples that move at all: interpolation blurs, and the network has to know what is sharp, too.
    """

    spacing_mm: float
    degrees: float = 3.0
    shift_mm: float = 1.5
    scale: float = 0.01
    warp_mm: float = 2.5
    share: float = 0.5

    def __call__(self, batch: Samples) -> Samples:
        """A batch with inputs (B, 1, X, Y[, Z]); targets that are maps (B, X, Y) move alike."""
        inputs = batch.inputs.float()
        grid = self._places(len(inputs), inputs.shape[2:])
        moved = F.grid_sample(inputs, grid, padding_mode="border", align_corners=False)
        if batch.target.ndim == 1:
            return replace(batch, inputs=moved)
        maps = batch.target[:, None].float()
        target = F.grid_sample(maps, grid, mode="nearest", padding_mode="border", align_corners=False)
        return replace(batch, inputs=moved, target=target[:, 0].to(batch.target.dtype))

    def _places(self, count: int, shape: torch.Size) -> Tensor:
        """Where each voxel is looked up, as `grid_sample` wants it: (B, X, Y[, Z], axes), last axis first.

        Pose and warp are both known at a few nodes, and linear between them.
        """
        axes, size = len(shape), torch.tensor(shape, dtype=torch.float32)
        moves = (torch.rand(count) < self.share).float()
        angles = torch.deg2rad(self.degrees * torch.randn(count, axes * (axes - 1) // 2))
        pose = torch.linalg.matrix_exp(_skew(angles * moves[:, None], axes))
        pose = pose * (1 + self.scale * moves * torch.randn(count))[:, None, None]
        pose[:, 0] *= 1 - 2 * (torch.rand(count, 1) < 0.5).float()  # the first axis is left-right
        shift = self.shift_mm * torch.randn(count, axes, 1)
        warp = self.warp_mm * torch.randn(count, axes, NODES**axes)
        ends = [torch.linspace(-0.5, 0.5, NODES) * (n - 1) for n in shape]  # voxels from the middle
        nodes = torch.stack(torch.meshgrid(*ends, indexing="ij")).flatten(1)
        places = pose @ nodes + moves[:, None, None] * (shift + warp) / self.spacing_mm
        relative = (2 * places / size[:, None]).unflatten(2, [NODES] * axes).flip(1)
        mode = "trilinear" if axes == 3 else "bilinear"
        return F.interpolate(relative, size=tuple(shape), mode=mode, align_corners=True).movedim(1, -1)


def _skew(angles: Tensor, axes: int) -> Tensor:
    """Antisymmetric matrices (B, axes, axes) of rotations by angles (B, 1 or 3)."""
    above = torch.triu_indices(axes, axes, 1)
    matrices = angles.new_zeros(len(angles), axes, axes)
    matrices[:, above[0], above[1]] = angles
    return matrices - matrices.transpose(1, 2)
