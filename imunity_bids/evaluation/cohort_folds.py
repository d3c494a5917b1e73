"""Cross-validation of a method that harmonizes features: by person, or leaving whole sites out."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from imunity_bids.errors import DataUnusable
from imunity_bids.evaluation.cohort_methods import Method
from imunity_bids.evaluation.cohort_rows import Rows
from imunity_bids.evaluation.cohort_scores import ordered_pairs
from imunity_bids.unlearning.probe import CLASSIFIERS, guessed

BY_PERSON, NEW_SITES = "persons left out", "sites left out"
SCHEMES = (BY_PERSON, NEW_SITES)
LEAST = 10  # rows of a fold: pairs of its patients and controls are what is counted


@dataclass(frozen=True)
class Judged:
    """What one seed's folds have found.

    Attributes
    ----------
    answers, fold
        (n,): of the fold in which a row was left out, and its number.
    told
        (classifiers, n) bool: whether a fresh classifier told the row's site; without rows where it was not asked.
    seconds
        That it took.
    """

    answers: np.ndarray
    fold: np.ndarray
    told: np.ndarray
    seconds: float


def split(rows: Rows, scheme: str, folds: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Numbers of training rows and of rows left out; no person is on both sides, by `NEW_SITES` no site either.

    Raises
    ------
    DataUnusable
        A target of two classes, and a training part that has one of them only.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    if scheme == NEW_SITES:
        parts = _without_sites(rows, folds, seed)
    else:
        kinds = np.char.add(rows.site, np.where(rows.target > 0, "+", "-")) if rows.classes else rows.site
        count = max(2, min(folds, len(rows) // LEAST, len(np.unique(rows.person))))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The least populated class")  # then a fold may lack a site's patients
            parts = list(StratifiedGroupKFold(count, shuffle=True, random_state=seed).split(kinds, kinds, rows.person))
    for known, judged in parts:
        known = known[~np.isin(rows.person[known], rows.person[judged])]
        if rows.classes and len(np.unique(rows.target[known])) < 2:
            raise DataUnusable("without the sites of a fold one of the two classes is gone: they have it to themselves")
        yield known, judged


def _without_sites(rows: Rows, folds: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Whole sites at a time; where their persons were at other sites, too, only some of the persons at a time.

    All of them at once would leave nobody to learn from: simulated persons of each label map are at every site.
    """
    from sklearn.model_selection import GroupKFold

    count = min(folds, len(np.unique(rows.site)))
    for known, there in GroupKFold(count, shuffle=True, random_state=seed).split(rows.site, groups=rows.site):
        persons = rows.person[there]
        if not np.isin(persons, rows.person[known]).any():
            yield known, there
            continue
        some = max(2, min(folds, len(there) // LEAST, len(np.unique(persons))))
        for _, left_out in GroupKFold(some, shuffle=True, random_state=seed).split(there, groups=persons):
            yield known, there[left_out]


def judge(rows: Rows, method: Method, scheme: str, folds: int, seed: int, shuffled: bool = False) -> Judged:
    """Fit on the training rows of each fold, and ask about the rows left out.

    The site is told by classifiers that learn from the harmonized training rows, which are more than those left out;
    they are not asked by `NEW_SITES`, since they have never met a site that was left out, nor where there is one site.

    Parameters
    ----------
    shuffled
        The control: targets, and for the classifiers the sites, are those of other training rows.
    """
    began = time.monotonic()
    answers, fold = np.zeros(len(rows)), np.zeros(len(rows), int)
    asked = CLASSIFIERS if scheme == BY_PERSON and len(np.unique(rows.site)) > 1 else {}
    told = np.zeros((len(asked), len(rows)), bool)
    for number, (known, left_out) in enumerate(split(rows, scheme, folds, seed)):
        rng = np.random.default_rng([seed, number])
        order = rng.permutation(len(known)) if shuffled else np.arange(len(known))
        training = rows.take(known)
        found = method(replace(training, target=training.target[order]), rows.take(left_out), seed)
        answers[left_out], fold[left_out] = found.answers, number
        for place, make in enumerate(asked.values()):
            said = guessed(make(seed), found.known, training.site[order], found.judged)
            told[place, left_out] = said == rows.site[left_out]
    return Judged(answers, fold, told, time.monotonic() - began)


def auc(rows: Rows, method: Method, folds: int, seed: int) -> float:
    """Of persons left out, once; no site is asked for."""
    answers, fold = np.zeros(len(rows)), np.zeros(len(rows), int)
    for number, (known, left_out) in enumerate(split(rows, BY_PERSON, folds, seed)):
        answers[left_out] = method(rows.take(known), rows.take(left_out), seed).answers
        fold[left_out] = number
    return float(ordered_pairs(answers, rows.target > 0, fold, np.ones((1, len(rows))))[0])
