"""The experiments of Dinsdale 2020 on simulated persons: (a) to (f) on volumes, (g) on slices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from imunity_bids.evaluation.unlearning_cohort import (
    Clinic,
    Visit,
    by_age,
    everywhere,
    sex_by_age,
    sex_by_site,
    somewhere,
)
from imunity_bids.evaluation.unlearning_methods import DANN, NORMAL, PER_SITE, UNLEARNED, Scale, Trained, judge, train
from imunity_bids.simulation.cohort import AGES, Member
from imunity_bids.unlearning.leak import leak
from imunity_bids.unlearning.losses import soft_labels
from imunity_bids.unlearning.model import Architecture, build
from imunity_bids.unlearning.networks import TapHead
from imunity_bids.unlearning.samples import Samples
from imunity_bids.unlearning.subsets import balanced, bins_of, overlap
from imunity_bids.unlearning.tasks import Task
from imunity_bids.unlearning.trainer import apply

Row = dict[str, Any]
MIDDLE = sum(AGES) / 2
AGE = Task("age", "regression", (), MIDDLE, (AGES[1] - AGES[0]) / 12**0.5)
SEX = Task("sex", "classification", ("F", "M"))
TISSUE = Task("dseg", "segmentation", ("background", "CSF", "gray matter", "white matter"))
AGE_BINS = torch.arange(AGES[0], AGES[1] + 1, 5.0)
SHARE = 0.8  # of a sex on a site, or below the middle age (section 2.4.5)
PAIR = (0, 3)  # an SPGR at 1.5 T and an MPRAGE at 3 T
TRIO = (0, 3, 5)  # and an IR-SPGR at 3 T


@dataclass(frozen=True)
class Setting:
    """What all experiments share."""

    training: Sequence[Member]
    relatives: Sequence[Member]  # others, of the label maps that are trained on
    judges: Sequence[Member]  # of other label maps
    clinic: Clinic
    scale: Scale
    keep: Callable[[str, np.ndarray, np.ndarray], None]  # a picture's name, features, sites

    def names(self) -> list[str]:
        """Of the sites."""
        return [scanner.name for scanner in self.clinic.scanners]

    def rng(self, experiment: str) -> np.random.Generator:
        """Of who is where."""
        return np.random.default_rng([self.scale.schedule.seed, *experiment.encode()])


def age_on_scanners(setting: Setting, sites: tuple[int, ...] = TRIO) -> Iterator[Row]:
    """(a) Table 1, lines 4 to 15: two or three scanners, four methods; all scanners are judged, unseen ones too."""
    visits = somewhere(setting.training, sites, setting.rng("a"))
    test = everywhere(setting.judges, sites)
    unseen = everywhere(setting.judges, [site for site in TRIO if site not in sites])
    for method in (NORMAL, PER_SITE, UNLEARNED, DANN):
        trained = _volumes(setting, method, visits, AGE, ("site",))
        row = _judged(setting, trained, test)
        if unseen:
            row["error"] |= _judged(setting, trained, unseen)["error"]
        row["relatives"] = _judged(setting, trained, everywhere(setting.relatives, sites))
        if sites == TRIO:
            _keep_features(setting, f"a_{method}", trained, test)
        yield {"condition": f"{len(sites)} scanners", "method": method, **row}


def age_trained_on_one(setting: Setting) -> Iterator[Row]:
    """(b) Table 1, lines 1 to 3: trained on one scanner, judged on three; on its own it has no other one to forget."""
    for site in TRIO:
        visits = [Visit(member, site) for member in setting.training]
        trained = _volumes(setting, NORMAL, visits, AGE, ())
        row = _judged(setting, trained, everywhere(setting.judges, TRIO))
        yield {"condition": f"trained on {setting.names()[site]}", "method": NORMAL, "error": row["error"]}


def age_overlap(setting: Setting, years: float = 5) -> Iterator[Row]:
    """(c) Table 3: ages of two scanners overlap by so many years; unlearning on all, or in the overlap only."""
    visits = by_age(setting.training, PAIR, years, MIDDLE, setting.rng("c"))
    ages = np.array([visit.member.traits.age for visit in visits])
    inside = overlap(ages, np.array([visit.site for visit in visits]))
    for name, method, on in (
        (NORMAL, NORMAL, None),
        ("unlearned on all", UNLEARNED, None),
        ("unlearned on the overlap", UNLEARNED, inside),
    ):
        trained = _volumes(setting, method, visits, AGE, ("site",), {"site": on})
        row = _judged(setting, trained, everywhere(setting.judges, PAIR))
        yield {"condition": f"{years:g} years of overlap", "method": name, **row}


def many_sites(setting: Setting) -> Iterator[Row]:
    """(d) Section 3.1.3: as many sites as the clinic has, of different sizes."""
    rng, count = setting.rng("d"), len(setting.clinic.scanners)
    shares = np.linspace(1, 6, count)  # the paper's smallest has 27, its largest 165
    sites = rng.choice(count, len(setting.training), p=shares / shares.sum())
    sites[:count] = np.arange(count)
    visits = [Visit(member, int(site)) for member, site in zip(setting.training, sites, strict=True)]
    for method in (NORMAL, UNLEARNED):
        trained = _volumes(setting, method, visits, AGE, ("site",))
        row = _judged(setting, trained, everywhere(setting.judges[::3], range(count)))
        yield {"condition": f"{count} sites", "method": method, **row}


def sex_as_confound(setting: Setting, follows: str | None = "age") -> Iterator[Row]:
    """(e) Fig. 9, Tables 4 and 5: sex is forgotten beside the site; it follows age, the site, or nothing."""
    rng, members = setting.rng(f"e {follows}"), list(setting.training)
    if follows == "age":
        members = sex_by_age(members, SHARE, MIDDLE, rng)
    visits = sex_by_site(members, PAIR, SHARE, rng) if follows == "site" else somewhere(members, PAIR, rng)
    sex = np.array([visit.member.traits.sex for visit in visits])
    ways = [(NORMAL, NORMAL, None), ("unlearned on all", UNLEARNED, None)]
    if follows:
        sites = np.array([visit.site for visit in visits])
        ages = bins_of(np.array([visit.member.traits.age for visit in visits]))
        even = balanced(sex, ages if follows == "age" else sites)
        ways.append(("unlearned on a balanced subset", UNLEARNED, even))
    test = everywhere(setting.judges, PAIR)
    others = {"sex": np.array([visit.member.traits.sex for visit in test])}
    for name, method, on in ways:
        trained = _volumes(setting, method, visits, AGE, ("site", "sex"), {"sex": on})
        label = f"sex follows {follows}" if follows else "sex is independent"
        yield {"condition": label, "method": name, **_judged(setting, trained, test, others)}


def age_as_confound(setting: Setting) -> Iterator[Row]:
    """(f) Section 3.1.5: sex is the task, site and age (soft labels) are forgotten; `age` is a squared correlation."""
    visits, test = somewhere(setting.training, PAIR, setting.rng("f")), everywhere(setting.judges, PAIR)
    for method in (NORMAL, UNLEARNED):
        trained = _volumes(setting, method, visits, SEX, ("site", "age"))
        row = _judged(setting, trained, test)
        known, found = _samples(setting, visits, SEX, ("age",)), _samples(setting, test, SEX, ("age",))
        vectors = [apply(trained.encoder, trained.head, part.inputs, "cpu")[0] for part in (known, found)]
        told = leak(vectors[0], known.nuisances["age"], vectors[1], found.nuisances["age"])
        yield {"condition": "sex, age forgotten", "method": method, **row, "age": told}


def segmentation(
    setting: Setting, places: Sequence[str] = ("", "A", "B", "AB"), labelled: int | None = None
) -> Iterator[Row]:
    """(g) Tables 6 and 7, Fig. 13: where the classifier sits, and how few labels the second scanner may have."""
    visits, test = somewhere(setting.training, PAIR, setting.rng("g")), everywhere(setting.judges, PAIR)
    second = setting.names()[PAIR[1]]
    condition = "all labels" if labelled is None else f"{labelled} labelled persons on {second}"
    for place in places:
        trained = _slices(setting, visits, place, labelled)
        name = f"unlearned at {'+'.join(place)}" if place else NORMAL
        yield {"condition": condition, "method": name, **_judged_slices(setting, trained, test)}


def _samples(setting: Setting, visits: Sequence[Visit], task: Task, nuisances: Sequence[str]) -> Samples:
    """Volumes with their targets and labels; sites are numbered as the clinic does."""
    traits = [visit.member.traits for visit in visits]
    site = torch.tensor([visit.site for visit in visits])
    ages = torch.tensor([one.age for one in traits])
    sex = torch.tensor([SEX.classes.index(one.sex) for one in traits])
    _, position = site.unique(return_inverse=True)
    labels = {"site": position, "sex": sex, "age": soft_labels(ages, AGE_BINS)}
    target = sex if task is SEX else (ages - AGE.mean) / AGE.std
    volumes = torch.stack([setting.clinic(visit.member, visit.site) for visit in visits])[:, None]
    known = torch.ones(len(visits), dtype=torch.bool)
    return Samples(volumes, target, known, site, {name: labels[name] for name in nuisances})


def _volumes(
    setting: Setting,
    method: str,
    visits: Sequence[Visit],
    task: Task,
    nuisances: Sequence[str],
    on: dict[str, np.ndarray | None] | None = None,
) -> Trained:
    samples = _samples(setting, visits, task, nuisances)
    for name, chosen in (on or {}).items():
        if chosen is not None:
            samples = samples.restricted(name, torch.from_numpy(chosen))
    classes = {name: len(AGE_BINS) if name == "age" else int(samples.nuisances[name].max()) + 1 for name in nuisances}
    torch.manual_seed(setting.scale.schedule.seed)
    networks = build(task, Architecture(setting.scale.width, 4, setting.scale.features, setting.scale.spacing_mm))
    families = np.array([visit.member.label_map for visit in visits])
    return train(method, samples, families, task, networks, classes, setting.scale)


def _judged(
    setting: Setting, trained: Trained, test: Sequence[Visit], others: dict[str, np.ndarray] | None = None
) -> Row:
    persons = np.array([visit.member.name for visit in test])
    samples = _samples(setting, test, trained.task, ())
    return judge(trained, samples, persons, setting.names(), setting.scale, others)


def _keep_features(setting: Setting, name: str, trained: Trained, test: Sequence[Visit]) -> None:
    vectors, _ = apply(trained.encoder, trained.head, _samples(setting, test, trained.task, ()).inputs, "cpu")
    setting.keep(name, vectors.numpy(), np.array([setting.names()[visit.site] for visit in test]))


def _slice_samples(setting: Setting, visits: Sequence[Visit], labelled: int | None) -> tuple[Samples, np.ndarray]:
    """Axial slices, and whose they are; on the second site only so many persons have labels, or all."""
    inputs, targets, sites, known, persons = [], [], [], [], []
    seen = 0
    for visit in visits:
        has = visit.site == PAIR[0] or labelled is None or seen < labelled
        seen += visit.site == PAIR[1]
        volume, tissues = setting.clinic(visit.member, visit.site), visit.member.tissues()
        for place in _spread(tissues, setting.scale.slices):
            inputs.append(volume[:, :, place])
            targets.append(tissues[:, :, place])
            sites.append(visit.site)
            known.append(has)
            persons.append(visit.member.name)
    site = torch.tensor(sites)
    labels = {"site": (site == PAIR[1]).long()}
    samples = Samples(torch.stack(inputs)[:, None], torch.stack(targets), torch.tensor(known), site, labels)
    return samples, np.array(persons)


def _spread(tissues: Tensor, count: int) -> list[int]:
    """So many slices, evenly over those that show brain."""
    used = torch.nonzero((tissues > 0).any(dim=0).any(dim=0))[:, 0]
    return used[torch.linspace(0, len(used) - 1, count).round().long()].tolist()


def _slices(setting: Setting, visits: Sequence[Visit], place: str, labelled: int | None) -> Trained:
    """Normal training without a place, else unlearning there."""
    samples, persons = _slice_samples(setting, visits, labelled)
    label_maps = {visit.member.name: visit.member.label_map for visit in visits}
    families = np.array([label_maps[person] for person in persons])
    width = setting.scale.width
    torch.manual_seed(setting.scale.schedule.seed)
    networks = build(TISSUE, Architecture(width, 3, spacing_mm=setting.scale.spacing_mm))
    if not place:
        known = samples.labelled.numpy()
        part = samples.take(torch.from_numpy(np.flatnonzero(known)))
        return train(NORMAL, part, families[known], TISSUE, networks, {}, setting.scale)
    return train(
        UNLEARNED, samples, families, TISSUE, networks, {"site": 2}, setting.scale,
        lambda classes: TapHead(place, width, width * 2**3, classes),
    )  # fmt: skip


def _judged_slices(setting: Setting, trained: Trained, test: Sequence[Visit]) -> Row:
    """As `_judged`; the error is 1 − Dice."""
    samples, persons = _slice_samples(setting, test, None)
    return judge(trained, samples, persons, setting.names(), setting.scale)
