from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from imunity_bids.errors import InputMissing
from imunity_bids.simulation import cohort
from imunity_bids.simulation.cohort import Member, draw_traits, make_cohort, make_sites, scan, split_by_map, varied
from imunity_bids.simulation.cohort_anatomy import (
    CAP_RIM_MM,
    CAP_SHARE,
    CORTEX_MM,
    GIVING_WAY_MM,
    anatomy_of,
    tissue_fractions,
)

SPACING = 3.0
STILL = torch.zeros(3, 5, 5, 5)
RADII = {"ventricle": 12, "white": 40, "cortex": 48, "csf": 52}


def head() -> np.ndarray:
    """A ventricle in white matter in a cortex in CSF, balls in each other, at 1 mm."""
    distance = np.sqrt(((np.indices((112,) * 3) - 55.5) ** 2).sum(0))
    labels = np.zeros(distance.shape, np.int16)
    for label, name in ((24, "csf"), (3, "cortex"), (2, "white"), (4, "ventricle")):
        labels[distance < RADII[name]] = label
    return labels


@pytest.fixture(scope="module")
def anatomy():
    return anatomy_of(head())


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("maps")
    for name in "abc":
        nib.save(nib.Nifti1Image(head(), np.eye(4)), folder / f"{name}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def member(maps: Path) -> Member:
    return make_cohort(maps, 1, SPACING)[0]


def volumes(anatomy, widening: float = 0.0, thinning: float = 0.0, scale=(1.0, 1.0, 1.0), caps: float = 0.0):
    """mm³ of CSF, gray and white matter."""
    found = tissue_fractions(anatomy, SPACING, scale, STILL, widening, thinning, caps)
    return found.sum(dim=(1, 2, 3)).numpy() * SPACING**3


def ball(radius: float) -> float:
    return 4 / 3 * np.pi * radius**3


def test_nothing_moves_without_age(anatomy) -> None:
    expected = [
        ball(RADII["csf"]) - ball(RADII["cortex"]) + ball(RADII["ventricle"]),
        ball(RADII["cortex"]) - ball(RADII["white"]),
        ball(RADII["white"]) - ball(RADII["ventricle"]),
    ]
    assert volumes(anatomy) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("widening", [1.0, 4.0])
def test_ventricles_widen_by_the_known_distance(anatomy, widening: float) -> None:
    moved = widening / (1 + widening / GIVING_WAY_MM)
    gained = volumes(anatomy, widening=widening) - volumes(anatomy)
    expected = ball(RADII["ventricle"] + moved) - ball(RADII["ventricle"])
    assert gained[0] == pytest.approx(expected, rel=0.15)
    assert gained[2] == pytest.approx(-expected, rel=0.15)
    assert abs(gained[1]) < 0.03 * expected + 200


def test_the_cortex_thins_by_the_known_share(anatomy) -> None:
    """In a cortex thicker than the field reaches only its outer surface moves."""
    thinning = 1.0
    moved = thinning / (1 + thinning / CORTEX_MM)
    lost = volumes(anatomy) - volumes(anatomy, thinning=thinning)
    expected = ball(RADII["cortex"]) - ball(RADII["cortex"] - moved)
    assert lost[1] == pytest.approx(expected, rel=0.15)
    assert lost[0] == pytest.approx(-expected, rel=0.15)
    assert abs(lost[2]) < 0.03 * expected


def test_caps_turn_a_known_share_of_white_matter_gray(anatomy) -> None:
    """All of `CAP_SHARE` until `CAP_RIM_MM` before their end, then fading."""
    caps, inner = 6.0, RADII["ventricle"]
    radius = np.linspace(inner, inner + caps, 1000)
    share = CAP_SHARE * np.clip((inner + caps - radius) / CAP_RIM_MM, 0, 1)
    expected = np.trapezoid(4 * np.pi * radius**2 * share, radius)
    gained = volumes(anatomy, caps=caps) - volumes(anatomy)
    assert gained[1] == pytest.approx(expected, rel=0.1)
    assert gained[2] == pytest.approx(-expected, rel=0.1)
    assert abs(gained[0]) < 1


def test_a_negative_scale_mirrors(anatomy) -> None:
    nodes = 3 * torch.randn(3, 5, 5, 5, generator=torch.Generator().manual_seed(0))
    opposite = nodes.flip(1)  # the own deformation is a field of places, not of the label map
    found = tissue_fractions(anatomy, SPACING, (1.0, 1.0, 1.0), nodes, 1, 0)
    mirrored = tissue_fractions(anatomy, SPACING, (-1.0, 1.0, 1.0), opposite, 1, 0)
    assert (found - mirrored.flip(1)).abs().max() < 0.02


def test_size_scales_every_tissue(anatomy) -> None:
    assert volumes(anatomy, scale=(1.1, 1.0, 1.0)) == pytest.approx(1.1 * volumes(anatomy), rel=0.01)


def test_traits_follow_age_and_sex() -> None:
    rng = np.random.default_rng(0)
    young, old = ([draw_traits(rng, age) for _ in range(100)] for age in (20, 80))
    assert np.mean([t.widening_mm for t in old]) == pytest.approx(cohort.WIDENING_MM, abs=0.1)
    assert np.mean([t.thinning_mm for t in young]) == pytest.approx(0, abs=0.03)
    women, men = ([draw_traits(rng, sex=sex) for _ in range(200)] for sex in "FM")
    for name, expected in (("size", cohort.SIZE), ("breadth", cohort.BREADTH)):
        found = np.mean([getattr(t, name) for t in men]) - np.mean([getattr(t, name) for t in women])
        assert found == pytest.approx(expected, abs=0.006)
    assert {draw_traits(rng).sex for _ in range(20)} == {"F", "M"}


def test_varied_persons_are_the_same_ones_further_from_their_label_map() -> None:
    plain = [draw_traits(np.random.default_rng(seed), age) for seed in range(40) for age in (20, 80)]
    changed = [varied(traits) for traits in plain]
    kept = ("age", "sex", "widening_mm", "thinning_mm", "size", "breadth", "seed")
    assert all(getattr(a, n) == getattr(b, n) for a, b in zip(plain, changed, strict=True) for n in kept)
    young, old = (np.mean([t.caps_mm for t in changed if t.age == age]) for age in (20, 80))
    assert young < cohort.CAPS_SCATTER_MM and old == pytest.approx(cohort.CAPS_MM, abs=0.4)
    assert 0.3 < np.mean([t.mirrored for t in changed]) < 0.7
    assert {t.warp_mm for t in changed} == {cohort.VARIED_WARP_MM}
    assert {(t.caps_mm, t.mirrored) for t in plain} == {(0.0, False)}


def test_a_cohort_is_the_same_for_the_same_seed(maps: Path) -> None:
    first, again, other = (make_cohort(maps, 2, 6.0, seed) for seed in (1, 1, 2))
    assert [m.traits for m in first] == [m.traits for m in again]
    assert all(torch.equal(a.fractions, b.fractions) for a, b in zip(first, again, strict=True))
    assert first[0].traits != other[0].traits
    assert len({m.name for m in first}) == 2


def test_maps_are_kept_apart(maps: Path) -> None:
    members = make_cohort(maps, 7, 6.0)
    training, judges = split_by_map(members, 1)
    assert {m.label_map for m in training} == {"a", "b"}
    assert {m.label_map for m in judges} == {"c"}
    assert len(training) + len(judges) == 7


def test_a_member_on_two_scanners(member: Member) -> None:
    first, second = make_sites(2)
    images = [scan(member, scanner, SPACING).float() for scanner in (first, first, second)]
    assert torch.equal(images[0], images[1])
    white = member.fractions[2] > 250
    for image in images:
        assert image[white].median().item() == pytest.approx(0.7, abs=0.02)
        assert image[member.fractions.sum(dim=0) == 0].abs().max() == 0
    gray = member.tissues() == 2
    assert abs(images[0][gray].mean() - images[2][gray].mean()) > 0.01


def test_the_truth_of_a_segmentation_is_the_largest_share(member: Member) -> None:
    tissues = member.tissues()
    assert set(tissues.unique().tolist()) == {0, 1, 2, 3}
    assert (tissues[member.fractions[1] > 130] == 2).all()


def test_more_sites_than_protocols_are_variants() -> None:
    sites = make_sites(16)
    assert len({site.name for site in sites}) == 16
    assert sites[6].tr != sites[0].tr
    assert sites[8].spacing < sites[2].spacing
    assert sites[6].tissue == sites[0].tissue
    for site in sites:
        assert np.isfinite(site.signal(np.ones(1), np.ones(3))).all(), site.name


def test_a_folder_without_maps(tmp_path: Path) -> None:
    with pytest.raises(InputMissing, match="no label maps"):
        make_cohort(tmp_path, 3, SPACING)
