"""The moving average of weights: what every training here validates and keeps."""

from __future__ import annotations

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def moving_average(network: nn.Module, decay: float = 0.999) -> AveragedModel:
    """Exponential moving average of a network's weights and buffers.

    `update_parameters(network)` follows the network; `module` is the averaged one. The weights at the start count as
    the first average.

    Parameters
    ----------
    decay
        Share of the average that a step leaves; less in the first steps, or the random start would linger.
    """

    def follow(average: Tensor, value: Tensor, count: Tensor) -> Tensor:
        if not average.is_floating_point():
            return value
        kept = (count / (count + 10)).clamp(max=decay)
        return average.lerp(value, (1 - kept).to(average.dtype))

    average = AveragedModel(network, avg_fn=follow, use_buffers=True)
    average.n_averaged += 1  # else the first update would copy the network
    average.module.eval()
    return average
