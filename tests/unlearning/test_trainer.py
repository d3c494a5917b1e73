from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from imunity_bids.unlearning.losses import soft_labels
from imunity_bids.unlearning.samples import UNKNOWN, Samples
from imunity_bids.unlearning.trainer import Nuisance, Unlearner
from tests.unlearning.toys import discs, network


def squared(output: Tensor, target: Tensor) -> Tensor:
    return (output[:, 0] - target) ** 2


def batch_of(count: int = 12, sites: int = 3) -> Samples:
    g = torch.Generator().manual_seed(0)
    site = torch.arange(count) % sites
    labels = {"site": site, "sex": torch.arange(count) % 2}
    target = torch.randn(count, generator=g)
    return Samples(torch.randn(count, 5, generator=g), target, torch.ones(count, dtype=torch.bool), site, labels)


def unlearner(*names: str, beta: float = 1.0, device: str = "cpu", updates: int = 1) -> Unlearner:
    torch.manual_seed(0)
    encoder, head = nn.Sequential(nn.Linear(5, 8), nn.Tanh()), nn.Linear(8, 1)
    nuisances = [Nuisance(name, nn.Linear(8, 3), alpha=1.0, beta=beta) for name in names]
    return Unlearner(encoder, head, squared, nuisances, rate=0.01, device=device, updates=updates)


def snapshot(subject: Unlearner) -> dict[str, Tensor]:
    return {name: nn.utils.parameters_to_vector(m.parameters()).clone() for name, m in subject.modules().items()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_each_update_moves_its_own_parts_in_the_papers_order() -> None:
    """Section 2.3: main moves encoder and head, eq. 2 the classifier alone, eq. 3 the encoder alone."""
    subject, moved = unlearner("site"), []
    for name, optimiser in subject.optimisers.items():
        optimiser.register_step_pre_hook(lambda *_, name=name: moved.append((name, snapshot(subject))))
        optimiser.register_step_post_hook(lambda *_: moved.append(("", snapshot(subject))))
    subject.step(batch_of())
    assert [name for name, _ in moved if name] == ["main", "nuisance/site", "confusion"]
    parts = [changed(moved[i][1], moved[i + 1][1]) for i in (0, 2, 4)]
    assert parts == [{"encoder", "head"}, {"nuisance/site"}, {"encoder"}]


def test_pretraining_leaves_confusion_out() -> None:
    subject = unlearner("site")
    state = subject.optimisers["confusion"].state_dict()["state"]
    assert set(subject.pretrain_step(batch_of())) == {"main", "site"}
    assert subject.optimisers["confusion"].state_dict()["state"] == state == {}


def test_without_confusions_weight_the_encoder_follows_the_main_task_alone() -> None:
    plain, silent = unlearner(), unlearner("site", beta=0.0)
    for _ in range(3):
        plain.step(batch_of()), silent.step(batch_of())
    assert torch.equal(snapshot(plain)["encoder"], snapshot(silent)["encoder"])
    assert not torch.equal(snapshot(silent)["nuisance/site"], snapshot(unlearner("site"))["nuisance/site"])


def test_beta_is_the_size_of_confusions_steps() -> None:
    batch = batch_of()
    batch = Samples(batch.inputs, batch.target, torch.zeros(12, dtype=torch.bool), batch.site, batch.nuisances)
    start = snapshot(unlearner("site"))["encoder"]
    moves = []
    for beta in (0.5, 2.0):
        subject = unlearner("site", beta=beta)
        subject.step(batch)
        moves.append((snapshot(subject)["encoder"] - start).abs().max().item())
    assert moves[1] == pytest.approx(4 * moves[0], rel=1e-3)


def test_a_classifier_may_take_several_steps_on_the_same_features() -> None:
    once, often = unlearner("site"), unlearner("site", updates=5)
    first, fifth = once.pretrain_step(batch_of())["site"], often.pretrain_step(batch_of())["site"]
    assert fifth < first
    assert torch.equal(snapshot(once)["encoder"], snapshot(often)["encoder"])
    assert int(often.optimisers["nuisance/site"].state_dict()["state"][0]["step"]) == 5


def test_statistics_are_held_until_the_next_training() -> None:
    subject = unlearner("site")
    norm = nn.BatchNorm1d(8)
    subject.encoder.append(norm)
    subject.hold_statistics()
    alone, together = (subject.encoder(batch_of().inputs[:count])[0] for count in (2, 12))
    assert torch.allclose(alone, together)
    assert norm.num_batches_tracked == 0
    subject.train()
    assert norm.training


def test_missing_targets_do_not_matter_and_their_sites_do() -> None:
    full = batch_of()
    labelled = full.labelled.clone()
    labelled[6:] = False
    nonsense = full.target.clone()
    nonsense[6:] = torch.nan
    some = Samples(full.inputs, nonsense, labelled, full.site, full.nuisances)
    first, second = unlearner("site"), unlearner("site")
    assert first.step(some)["main"] == pytest.approx(second.step_main(full.take(torch.arange(6)))["main"])
    second.optimisers["main"].zero_grad()
    with_half = second._features_for_nuisances(full.take(torch.arange(6)), {})
    with_all = second._features_for_nuisances(some, {})
    assert (len(with_half[0][2]), len(with_all[0][2])) == (6, 12)


def test_each_nuisance_sees_its_own_part() -> None:
    batch = batch_of().restricted("sex", torch.arange(12) < 4)
    assert batch.known("sex").sum() == 4
    assert batch.known("site").all()
    subject = unlearner("site", "sex")
    seen = subject._features_for_nuisances(batch, {"site": batch_of(count=6)})
    assert [(nuisance.name, len(labels)) for nuisance, _, labels in seen] == [("site", 6), ("sex", 4)]
    assert set(subject.step(batch)) == {"main", "site", "sex", "confusion"}


def test_nobody_with_a_label_is_no_error() -> None:
    batch = batch_of().restricted("site", torch.zeros(12, dtype=torch.bool))
    assert (batch.nuisances["site"] == UNKNOWN).all()
    assert set(unlearner("site").step(batch)) == {"main"}


def test_continuous_nuisances_have_soft_labels() -> None:
    batch = batch_of()
    soft = soft_labels(torch.linspace(20, 80, 12), torch.tensor([20.0, 50.0, 80.0]))
    batch = Samples(batch.inputs, batch.target, batch.labelled, batch.site, {"age": soft})
    some = batch.restricted("age", torch.arange(12) < 5)
    assert some.known("age").sum() == 5
    assert set(unlearner("age").step(some)) == {"main", "age", "confusion"}


def test_state_goes_on_as_if_nothing_had_happened() -> None:
    first, second = unlearner("site"), unlearner("site")
    for _ in range(3):
        first.step(batch_of())
    second.load(first.state())
    first.step(batch_of()), second.step(batch_of())
    assert not changed(snapshot(first), snapshot(second))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_on_a_gpu() -> None:
    assert set(unlearner("site", device="cuda").step(batch_of())) == {"main", "site", "confusion"}


def test_one_known_sample_alone_is_no_update() -> None:
    """Features are normalised over the batch, which one sample is not."""
    subject, batch = network("site"), discs(8, 1)
    alone = torch.arange(8) == 3
    assert subject.step(replace(batch, labelled=alone).restricted("site", alone)) == {}
