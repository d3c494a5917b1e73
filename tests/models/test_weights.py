from __future__ import annotations

import torch

from imunity_bids.models.weights import load_weights, save_weights


def test_floats_are_stored_in_half_and_integers_kept(tmp_path) -> None:
    tensors = {"a": torch.rand(5), "n": torch.tensor([3])}
    digest = save_weights(tmp_path / "w.safetensors", tensors)
    loaded = load_weights(tmp_path / "w.safetensors", digest)
    assert loaded["a"].dtype == torch.float32
    assert torch.allclose(loaded["a"], tensors["a"], atol=1e-3)  # half precision
    assert torch.equal(loaded["n"], tensors["n"])
