from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from imunity_bids.errors import DataUnusable, InputMissing
from imunity_bids.harmonize.inference import Compute, harmonize
from imunity_bids.models.bundle import OTHERS, Bundle, load_bundle, save_bundle
from imunity_bids.models.card import AXES, find_bundle
from imunity_bids.models.histogram import HistogramNet
from imunity_bids.models.imunity import Architecture, Generator
from imunity_bids.models.uncertainty import LEAST, ErrorNet


def refuse_a_flipped_byte(folder: Path, name: str) -> None:
    path = folder / f"{name}.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataUnusable, match="damaged"):
        load_bundle(folder)


def test_a_bundle_comes_back(bundle_folder: Path) -> None:
    bundle = load_bundle(bundle_folder)
    assert set(bundle.generators) == set(AXES)
    assert bundle.references["default"].quantiles.shape == (101,)
    assert not any(p.requires_grad for g in bundle.generators.values() for p in g.parameters())


@pytest.mark.parametrize("name", [*AXES, "references"])
def test_one_flipped_byte_is_refused(bundle_folder: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(bundle_folder, tmp_path / "bundle")
    refuse_a_flipped_byte(folder, name)


def test_the_other_networks_are_kept_checked_and_used(bundle_folder: Path, tmp_path: Path) -> None:
    """One that darkens every reference: harmonized brains follow it. One that expects the same error everywhere."""
    plain = load_bundle(bundle_folder)
    generators = {axis: Generator(Architecture(width=8, prematch=True)).eval() for axis in AXES}
    darker = HistogramNet()
    darker.layers[-1].bias.data.fill_(-1.0)
    expected = ErrorNet()
    for parameter in expected.parameters():
        parameter.data.zero_()
    expected.layers[-1].bias.data.fill_(np.log(0.04 + LEAST))
    save_bundle(tmp_path, Bundle({"name": "t", "version": "0"}, generators, plain.references, darker, expected))
    bundle = load_bundle(tmp_path)
    volume = np.random.default_rng(0).uniform(0.2, 0.8, (24, 24, 24)).astype(np.float32)
    mask = np.ones(volume.shape, bool)
    reference = bundle.references["default"]
    followed, error = harmonize(volume, mask, bundle, reference, Compute())
    matched, _ = harmonize(volume, mask, replace(bundle, histogram=None), reference, Compute())
    # 0.1, the scale of the network's changes; the curves' own deviation from the identity differs little
    assert np.median(matched - followed) == pytest.approx(0.1, abs=0.02)
    np.testing.assert_allclose(error, 0.04, rtol=1e-5)
    for name in OTHERS:
        folder = shutil.copytree(tmp_path, tmp_path / name, ignore=shutil.ignore_patterns(*OTHERS))
        refuse_a_flipped_byte(folder, name)


def test_missing_weights_and_names(bundle_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bundle_folder, tmp_path / "bundle")
    (folder / "axial.safetensors").unlink()
    with pytest.raises(InputMissing, match="missing"):
        load_bundle(folder)
    with pytest.raises(InputMissing, match="no such bundle"):
        find_bundle("nonsense")


def test_a_broken_card_is_refused(bundle_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bundle_folder, tmp_path / "bundle")
    card = json.loads((folder / "bundle.json").read_text())
    del card["architecture"]["width"]
    card["architecture"]["nonsense"] = 1
    (folder / "bundle.json").write_text(json.dumps(card))
    with pytest.raises(DataUnusable, match="not a bundle"):
        load_bundle(folder)


def test_weights_are_kept_in_half_precision_and_used_in_single(bundle_folder: Path) -> None:
    generator = load_bundle(bundle_folder).generators["axial"]
    assert {p.dtype for p in generator.parameters()} == {torch.float32}
