from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from imunity_bids.errors import DataUnusable, InputMissing
from imunity_bids.models.bundle import Bundle, load_bundle, save_bundle
from imunity_bids.models.card import AXES, find_bundle
from imunity_bids.models.paper import PaperArchitecture, PaperGenerator


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


def test_both_kinds_of_generators_come_back(bundle_folder: Path, tmp_path: Path) -> None:
    """Bit for bit as they are stored, in half precision; a brain that is harmonized tells."""
    torch.manual_seed(0)
    painters = {axis: PaperGenerator(PaperArchitecture(width=4)).eval() for axis in AXES}
    for name, generators in (("curves", load_bundle(bundle_folder).generators), ("paper", painters)):
        save_bundle(tmp_path / name, Bundle({"name": "t", "version": "0"}, generators, {}))
        card = json.loads((tmp_path / name / "bundle.json").read_text())
        assert card["architecture"]["kind"] == name
        again = load_bundle(tmp_path / name).generators["axial"]
        assert type(again) is type(generators["axial"])
        assert again.architecture == generators["axial"].architecture
        for weight, stored in zip(generators["axial"].parameters(), again.parameters(), strict=True):
            assert torch.equal(weight.half().float(), stored)


def test_a_reference_keeps_its_noise(bundle_folder: Path, tmp_path: Path) -> None:
    bundle = load_bundle(bundle_folder)
    noisy = replace(bundle.references["default"], noise=0.02)
    save_bundle(tmp_path, replace(bundle, references={"default": noisy}))
    assert load_bundle(tmp_path).references["default"].noise == pytest.approx(0.02)
    assert math.isnan(bundle.references["default"].noise)


def test_a_bundle_of_an_earlier_version_is_refused(bundle_folder: Path, tmp_path: Path) -> None:
    """Up to 0.5 the card named a decoder, and other networks stood beside the three."""
    folder = shutil.copytree(bundle_folder, tmp_path / "bundle")
    card = json.loads((folder / "bundle.json").read_text())
    for architecture in ({"decoder": "curves", "width": 32}, {"kind": "nonsense"}):
        (folder / "bundle.json").write_text(json.dumps({**card, "architecture": architecture}))
        with pytest.raises(DataUnusable, match="not the card of a bundle that this version can read"):
            load_bundle(folder)


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
    card["architecture"]["nonsense"] = 1
    (folder / "bundle.json").write_text(json.dumps(card))
    with pytest.raises(DataUnusable, match="not the card of a bundle"):
        load_bundle(folder)


def test_weights_are_kept_in_half_precision_and_used_in_single(bundle_folder: Path) -> None:
    generator = load_bundle(bundle_folder).generators["axial"]
    assert {p.dtype for p in generator.parameters()} == {torch.float32}
