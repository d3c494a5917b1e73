from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from imunity_bids.errors import DataUnusable, Usage
from imunity_bids.unlearning import fit as module
from imunity_bids.unlearning.augment import Poses
from imunity_bids.unlearning.fit import Schedule, fit
from imunity_bids.unlearning.probe import probe
from imunity_bids.unlearning.trainer import Unlearner, apply
from tests.unlearning.toys import discs, mean_absolute, network

SHORT = Schedule(batch=8, pretrain=20, steps=20, every=10, patience=9)


def weights(subject: Unlearner) -> dict[str, torch.Tensor]:
    return {f"{n}.{k}": v.clone() for n, m in subject.modules().items() for k, v in m.state_dict().items()}


def test_the_painted_site_is_forgotten_and_the_task_is_not() -> None:
    """From above 0.95 to chance ± 0.05; the error within 5 % of one who never saw a painted picture."""
    schedule = Schedule(batch=128, pretrain=500, steps=1200, every=50, patience=30, tolerance=0.02)
    errors, told = {}, {}
    for name, painted, nuisances in (("oracle", False, ()), ("normal", True, ()), ("unlearned", True, ("site",))):
        training, validation, test = (discs(n, s, painted) for n, s in ((4000, 1), (800, 2), (600, 3)))
        subject = network(*nuisances)
        fit(subject, training, validation, mean_absolute, schedule)
        vectors, outputs = apply(subject.encoder, subject.head, test.inputs, "cpu")
        errors[name] = mean_absolute(outputs, test.target)
        told[name] = probe(vectors.numpy(), test.site.numpy(), np.arange(len(test)), seeds=2).accuracy
    assert told["normal"] > 0.95
    assert told["unlearned"] == pytest.approx(0.5, abs=0.05)
    assert errors["unlearned"] <= 1.05 * errors["oracle"], errors


def test_killed_and_resumed_gives_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With samples that look different each time they are drawn, too."""
    training, validation, poses = discs(60, 1), discs(30, 2), Poses(4.0)
    undisturbed = network("site")
    outcome = fit(undisturbed, training, validation, mean_absolute, SHORT, tmp_path / "undisturbed", augment=poses)

    calls, real = [], module.evaluate

    def killed(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(module, "evaluate", killed)
    with pytest.raises(KeyboardInterrupt):
        fit(network("site"), training, validation, mean_absolute, SHORT, tmp_path / "killed", augment=poses)
    resumed = network("site", seed=99)  # whatever it starts with
    assert fit(resumed, training, validation, mean_absolute, SHORT, tmp_path / "killed", augment=poses) == outcome
    for name, value in weights(undisturbed).items():
        assert torch.equal(value, weights(resumed)[name]), name
    logs = [(tmp_path / run / "log.csv").read_text() for run in ("undisturbed", "killed")]
    assert logs[0] == logs[1]
    assert len(logs[0].splitlines()) == 5
    assert (tmp_path / "killed" / "curves.png").stat().st_size > 1000


def test_unlearning_sees_what_the_network_will_be_applied_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch statistics while it is pretrained, those that were found from then on."""
    subject = network("site")
    subject.encoder.append(torch.nn.BatchNorm1d(6))
    modes, real = [], Unlearner.step_main
    monkeypatch.setattr(
        Unlearner, "step_main", lambda self, batch: modes.append(self.encoder[-1].training) or real(self, batch)
    )
    fit(subject, discs(60, 1), discs(30, 2), mean_absolute, SHORT)
    assert modes == 20 * [True] + 20 * [False]


def test_pretraining_ends_when_both_have_converged() -> None:
    progress = module._Progress(Schedule(patience=2, pretrain=10**6), "pretrain")
    numbers = [(1.0, 1.0), (1.0, 0.9), (0.5, 0.9), (0.5, 0.9), (0.4999, 0.8999)]
    assert [progress.converged({"error": e, "site": s}) for e, s in numbers] == [False, False, False, False, True]


def test_what_is_kept_has_forgotten_without_losing_the_task() -> None:
    """Errors relative to 2.0 after pretraining; the nuisance's leak is the mean of the last three looks."""
    progress, better = module._Progress(Schedule(tolerance=0.05), "pretrain"), []
    progress.converged({"error": 2.0})
    progress.begin_unlearning()
    looks = [(2.0, 0.40), (2.2, 0.00), (4.0, 0.00), (2.4, -0.03), (2.1, 0.03), (2.0, 0.36)]
    for step, (error, leak) in enumerate(looks, start=1):
        progress.step = step
        better.append(progress.keep(error, {"site": leak}, {}))
    assert better == [True, True, False, True, True, False]
    assert (progress.kept["step"], progress.kept["error"]) == (5, 2.1)
    assert progress.kept["leaks"] == {"site": pytest.approx(0.0)}
    assert progress.kept["cost"] == pytest.approx(1.05)


def test_patience_counts_after_confusion_has_settled() -> None:
    progress = module._Progress(Schedule(patience=2, every=10), "unlearn")
    done = []
    for step in range(10, 70, 10):
        progress.step = step
        done.append(progress.unlearned(better=False))
    assert done == [False, False, False, False, True, True]


def test_normal_training_is_one_stage_and_keeps_the_lowest_error() -> None:
    subject = network(per_site=False)
    outcome = fit(subject, discs(200, 1), discs(60, 2), mean_absolute, Schedule(pretrain=150, every=25, patience=3))
    _, outputs = apply(subject.encoder, subject.head, discs(60, 2).inputs, "cpu")
    assert mean_absolute(outputs, discs(60, 2).target) == pytest.approx(outcome.error)
    assert outcome.leaks == {}


def test_a_part_for_unlearning_is_drawn_evenly_from_that_part(monkeypatch: pytest.MonkeyPatch) -> None:
    training = discs(60, 1).restricted("site", torch.arange(60) < 7)
    batches = module._Batches(network("site"), training, SHORT, None)
    drawn = batches.subsets["site"](0)
    assert drawn.max() < 7
    assert (training.site[drawn] == 0).sum() == 4
    assert module._Batches(network("site"), discs(60, 1), SHORT, None).subsets == {}


def test_errors_that_say_what_to_do() -> None:
    with pytest.raises(Usage, match="do not fit into a batch of 4"):
        fit(network("site", sites=6), discs(60, 1, sites=6), discs(12, 2), mean_absolute, Schedule(batch=4))
    broken = discs(20, 1)
    broken.target[:] = torch.inf
    with pytest.raises(DataUnusable, match="diverged"):
        fit(network(), broken, discs(10, 2), lambda *_: float("nan"), SHORT)
