"""The site head and the confusion that it causes: losses, their order within a batch, the pretraining."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("monai", reason="training needs the extra `train`")

from imunity_bids.models.paper import PaperArchitecture
from imunity_bids.training.dataset import Brain
from imunity_bids.training.losses import PRESETS
from imunity_bids.training.pairs import Pairs, make_example
from imunity_bids.training.paper import build_networks, train_paper, update
from imunity_bids.training.site_unlearning import pretrain_site_head
from imunity_bids.unlearning.losses import confusion_loss, domain_loss
from tests.training.toys import toy_brains, toy_plan


def striped(count: int = 4) -> list[Brain]:
    """Brains of two sites that differ by dark stripes across every slice, and by nothing else."""
    stripes = 1 - 0.7 * (torch.arange(40) // 4 % 2)
    return [
        replace(brain, site=index % 2, volume=brain.volume * stripes[:, None] if index % 2 else brain.volume)
        for index, brain in enumerate(toy_brains(count, 1))
    ]


def test_the_head_comes_first_and_the_encoder_is_confused_by_the_updated_head(tmp_path: Path) -> None:
    known = striped()
    plan = toy_plan(tmp_path, rate=0.05)
    torch.manual_seed(0)
    networks = build_networks(plan, 2)
    order = []
    for name, optimiser in networks.optimisers.items():
        optimiser.register_step_post_hook(lambda *_, name=name: order.append(name))
    before, head_before = deepcopy(networks.generator), deepcopy(networks.site_head)
    pairs = Pairs(known, plan.axis, plan.crop, plan.batch)
    numbers = update(networks, plan, pairs, 5)

    assert order == ["site_head", "generator", "discriminator"]
    g = plan.random(5)
    batch = pairs.batch(5, g)
    with torch.no_grad():
        features = before.anatomy(make_example(batch, g).seen).mean
        assert numbers["site"] == pytest.approx(domain_loss(head_before(features), batch.site).item(), rel=1e-5)
        confused = confusion_loss(networks.site_head(features)).item()
        assert confused != pytest.approx(confusion_loss(head_before(features)).item(), rel=1e-3)
    assert numbers["confusion"] == pytest.approx(confused, rel=1e-5)


def test_pretraining_teaches_the_head_and_leaves_the_encoder(tmp_path: Path) -> None:
    known = striped()
    plan = toy_plan(tmp_path, architecture=PaperArchitecture(width=8))
    pairs, many = (Pairs(known, plan.axis, plan.crop, size) for size in (16, 200))
    reached, heads = [], []
    for _ in range(2):
        torch.manual_seed(0)
        networks = build_networks(plan, 2)
        encoder = networks.generator.anatomy
        untouched = deepcopy(encoder.state_dict())
        g = torch.Generator().manual_seed(1)
        batches = [*(pairs.batch(step, g) for step in range(100)), many.batch(0, g)]
        with torch.no_grad():
            codes = [(encoder(make_example(batch, g).seen).mean, batch.site) for batch in batches]
        assert pretrain_site_head(networks.site_head, [], 3e-3) is None
        reached.append(pretrain_site_head(networks.site_head, codes, 3e-3))
        heads.append(networks.site_head.state_dict())
        assert all(torch.equal(untouched[name], value) for name, value in encoder.state_dict().items())
    assert reached[0] >= 0.8  # on 200 slices; guessing gives 0.5 ± 0.04, 0.9 was seen
    assert all(torch.equal(heads[0][name], heads[1][name]) for name in heads[0])  # the same again


def test_unlearning_begins_with_a_head_that_can_tell_the_sites(tmp_path: Path) -> None:
    """Without the pretraining the first batches would be confused by a head that knows nothing."""
    accuracies = {}
    for updates in (0, 60):
        plan = toy_plan(
            tmp_path / str(updates), architecture=PaperArchitecture(width=8),
            batch=64, steps=1, every=1, rate=3e-3, site_pretraining=updates,
        )  # fmt: skip
        train_paper(plan, striped(), 2, striped())
        rows = torch.load(plan.output / "last.pt", weights_only=True)["rows"]
        accuracies[updates] = rows[0]["site_accuracy"]
    assert accuracies[60] >= 0.75 > accuracies[0]  # of 64 slices: guessing gives 0.5 ± 0.06


def test_unlearning_makes_the_site_head_guess(tmp_path: Path) -> None:
    """The head finds the stripes in the code unless the encoder is confused."""
    last = {}
    for weight in (0.0, 10.0):
        losses = replace(PRESETS["code"], confusion=weight, adversarial=0, ssim=0)
        plan = toy_plan(
            tmp_path / str(weight), architecture=PaperArchitecture(width=8), weights=losses,
            steps=150, batch=12, every=50, rate=2e-3, site_pretraining=60,
        )  # fmt: skip
        train_paper(plan, striped(), 2, striped())
        last[weight] = torch.load(plan.output / "last.pt", weights_only=True)["rows"][-1]
    chance = np.log(2)  # cross-entropy of a head that guesses
    assert last[0.0]["site"] < 0.45 * chance  # 0.35 seen
    assert last[0.0]["site_accuracy"] > 0.88  # 0.94 seen
    assert last[10.0]["site"] > 0.78 * chance  # 0.84 seen
    assert last[10.0]["l1"] < 1.3 * last[0.0]["l1"]  # and the images did not pay for it
