"""Where networks run."""

from __future__ import annotations

from unittest.mock import Mock

import torch

from imunity_bids.models.device import moved


def test_what_goes_to_a_gpu_goes_through_pinned_memory() -> None:
    """A copy from ordinary memory would wait for what the GPU is at, and make it wait."""
    values = Mock()
    assert moved(values, "cuda:1") is values.pin_memory().to.return_value
    values.pin_memory().to.assert_called_with("cuda:1", non_blocking=True)


def test_on_the_cpu_nothing_is_copied() -> None:
    values = torch.ones(3)
    assert moved(values, "cpu") is values
