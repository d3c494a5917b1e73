"""Methods that harmonize features, each fitted on training rows only: ComBat, networks that forget the site, and none.

`none` and ComBat are followed by the paper's classifier, a support vector machine with radial kernel (Cackowski 2023,
section 2.5.2), or by a ridge regression; the networks answer themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from imunity_bids.errors import Usage
from imunity_bids.evaluation import unlearning_methods
from imunity_bids.evaluation.cohort_rows import Rows
from imunity_bids.evaluation.unlearning_methods import TABLES
from imunity_bids.unlearning.networks import FEATURES, TableEncoder
from imunity_bids.unlearning.samples import Samples
from imunity_bids.unlearning.tasks import column_task
from imunity_bids.unlearning.trainer import apply

PENALTIES = np.logspace(0, 5, 11)  # of the ridge regression, chosen within the training rows
LEAST = 1e-9  # standard deviation of a feature that says something


class Answers(NamedTuple):
    """Of one fit.

    Attributes
    ----------
    known, judged
        Harmonized features of the training rows (k, F) and of the rows left out (m, F): what probes are shown.
    answers
        For the rows left out, (m,): the higher, the more like the second class; or numbers.
    """

    known: np.ndarray
    judged: np.ndarray
    answers: np.ndarray


Method = Callable[[Rows, Rows, int], Answers]  # training rows, rows left out, seed


def methods_named(names: list[str]) -> dict[str, Method]:
    """In the order of `METHODS`; without names all of them.

    Raises
    ------
    Usage
        A name is not known.
    """
    if unknown := sorted(set(names) - set(METHODS)):
        raise Usage(f"--methods {' '.join(unknown)}: no such method; there are: {', '.join(METHODS)}")
    return {name: method for name, method in METHODS.items() if not names or name in names}


def _covariates(training: Rows, judged: Rows, seed: int) -> Answers:
    """A floor: age and sex, no features."""
    return _classical(training.showing(training.covariates), judged.showing(judged.covariates))


def _sites(training: Rows, judged: Rows, seed: int) -> Answers:
    """A floor: how frequent the target is at the site."""
    names = np.unique(training.site)
    shown = ((rows.site[:, None] == names).astype(float) for rows in (training, judged))
    return _classical(*(rows.showing(features) for rows, features in zip((training, judged), shown, strict=True)))


def _none(training: Rows, judged: Rows, seed: int) -> Answers:
    return _classical(training, judged)


def _combat(training: Rows, judged: Rows, seed: int) -> Answers:
    """ComBat (Fortin 2017) that keeps age and sex, fitted on the training rows.

    It knows no shift of a site that it has not seen: rows left out of such a site are fitted along, without target.
    """
    try:
        from combatlearn import ComBat
    except ImportError as error:
        raise Usage(
            "ComBat needs combatlearn: pip install 'imunity-bids[train]', or leave it out by --methods"
        ) from error
    kept = training.features.std(axis=0) > LEAST
    frame = pd.DataFrame(np.concatenate([training.features, judged.features])[:, kept])
    covariates = pd.DataFrame(np.concatenate([training.covariates, judged.covariates]))
    fitted = np.concatenate([np.ones(len(training), bool), ~np.isin(judged.site, training.site)])
    covariates = covariates.loc[:, covariates[fitted].std() > LEAST]
    combat = ComBat(
        pd.Series(np.concatenate([training.site, judged.site])),
        continuous_covariates=covariates if covariates.shape[1] else None,
        method="fortin" if covariates.shape[1] else "johnson",
    )
    done = combat.fit(frame[fitted]).transform(frame).to_numpy(float)
    return _classical(training.showing(done[: len(training)]), judged.showing(done[len(training) :]))


def _network(method: str) -> Method:
    """One of the methods of `unlearning_methods`; the network sees standardised features."""

    def fit_and_answer(training: Rows, judged: Rows, seed: int) -> Answers:
        torch.manual_seed(seed)
        kind = "classification" if training.classes else "regression"
        words = [str(int(value)) if training.classes else str(value) for value in training.target]
        task, target, known = column_task("target", kind, words)
        inputs = [torch.from_numpy(part).float() for part in _standardised(training.features, judged.features)]
        names, numbers = np.unique(training.site, return_inverse=True)
        site = torch.from_numpy(numbers)
        samples = Samples(inputs[0], target, known, site, {"site": site})
        networks = TableEncoder(inputs[0].shape[1]), torch.nn.Linear(FEATURES, task.outputs)
        scale = replace(TABLES, schedule=replace(TABLES.schedule, seed=seed))
        trained = unlearning_methods.train(
            method, samples, training.person, task, networks, {"site": len(names)}, scale
        )
        seen, _ = apply(trained.encoder, trained.head, inputs[0], "cpu")
        vectors, outputs = apply(trained.encoder, trained.head, inputs[1], "cpu")
        answers = outputs[:, 1] - outputs[:, 0] if training.classes else outputs[:, 0] * task.std + task.mean
        return Answers(seen.numpy(), vectors.numpy(), answers.numpy().astype(float))

    return fit_and_answer


def _classical(training: Rows, judged: Rows) -> Answers:
    """Standardised features, and what the classifier or the regression makes of them."""
    from sklearn.linear_model import RidgeCV
    from sklearn.svm import SVC

    known, left_out = _standardised(training.features, judged.features)
    if not known.shape[1]:  # nothing to see: the same answer for all
        same = np.median(training.target)
        return Answers(np.zeros((len(training), 1)), np.zeros((len(judged), 1)), np.full(len(judged), same))
    model: Any = SVC(C=1.0, class_weight="balanced") if training.classes else RidgeCV(PENALTIES)
    model.fit(known, training.target)
    answers = model.decision_function(left_out) if training.classes else model.predict(left_out)
    return Answers(known, left_out, answers)


def _standardised(known: np.ndarray, judged: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By mean and deviation of the known ones; features that are constant there are left out."""
    mean, std = known.mean(axis=0), known.std(axis=0)
    kept = std > LEAST
    return (known[:, kept] - mean[kept]) / std[kept], (judged[:, kept] - mean[kept]) / std[kept]


AGE_AND_SEX, SITE, NONE, COMBAT = "age and sex alone", "site alone", "none", "ComBat"
NETWORK, DANN, UNLEARNED = "network", "network, DANN", "network, unlearned"
FLOORS, NETWORKS = (AGE_AND_SEX, SITE), (NETWORK, DANN, UNLEARNED)
METHODS: dict[str, Method] = {
    AGE_AND_SEX: _covariates,
    SITE: _sites,
    NONE: _none,
    COMBAT: _combat,
    NETWORK: _network(unlearning_methods.NORMAL),
    DANN: _network(unlearning_methods.DANN),
    UNLEARNED: _network(unlearning_methods.UNLEARNED),
}
