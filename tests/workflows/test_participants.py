"""What a run is made of: devices, GPU slots, memory, what each step depends on, and what the methods text says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nipype import Node, Workflow

from imunity_bids.bids.inputs import T1w
from imunity_bids.image.template import BUILT_IN
from imunity_bids.models.card import read_card
from imunity_bids.plan.plan import Plan
from imunity_bids.plan.requests import ReferenceRequest
from imunity_bids.settings import Settings
from imunity_bids.workflows import nodes
from imunity_bids.workflows.nodes import TYPICAL_GB, volume_gb
from imunity_bids.workflows.participants import init_participants_wf, methods_text


@pytest.fixture
def plan(tmp_path: Path, bundle_folder: Path) -> Plan:
    """Two scans, of which the second is the reference, too."""
    images = []
    for label, size in (("01", 20), ("02", 60)):
        path = tmp_path / "bids" / f"sub-{label}" / "anat" / f"sub-{label}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        nib.Nifti1Image(np.zeros((size,) * 3, np.float32), np.eye(4)).to_filename(path)
        images.append(T1w.from_path(path, tmp_path / "bids"))
    settings = Settings(
        tmp_path / "bids", tmp_path / "out", model=str(bundle_folder), template=BUILT_IN, omp_nthreads=2, mem_gb=64,
        run_id="now",
    )  # fmt: skip
    reference = ReferenceRequest("sub02", "participant", "aa", (images[1],), ("aa",))
    parameters = {"brain_weights": "b", "template_sha256": "t"}
    card = read_card(bundle_folder / "bundle.json")
    return Plan(settings, tuple(images), (), (reference,), bundle_folder, card, BUILT_IN, parameters)


def steps(plan: Plan) -> dict[str, Node]:
    return {node.fullname: node for node in init_participants_wf(plan)._get_all_nodes()}


def of(kind: str, found: dict[str, Node]) -> list[Node]:
    return [node for node in found.values() if type(node.interface).__name__ == kind]


def test_a_scan_that_is_input_and_reference_is_preprocessed_once(plan: Plan) -> None:
    found = steps(plan)
    assert len(of("Conform", found)) == 2
    assert len(of("EncodeReference", found)) == 1
    assert len(of("WriteHarmonized", found)) == 2
    alone = steps(replace(plan, images=plan.images[:1]))
    assert len(of("Conform", alone)) == 2  # the reference is none of the images, and is not written
    assert len(of("WritePreprocessed", alone)) == 1


def test_a_kept_reference_is_not_made_again(plan: Plan) -> None:
    (encode,) = of("EncodeReference", steps(plan))
    cache = Path(encode.inputs.cache)
    cache.parent.mkdir(parents=True)
    cache.touch()
    again = steps(plan)
    assert not of("EncodeReference", again)
    assert {node.inputs.reference_file for node in of("Harmonize", again)} == {str(cache)}


@pytest.mark.parametrize(("device", "gpu"), [("cpu", False), ("cuda", True), ("cuda:1", True)])
def test_the_device_reaches_both_networks_and_takes_gpu_slots(plan: Plan, device: str, gpu: bool) -> None:
    found = steps(replace(plan, settings=replace(plan.settings, device=device)))
    for kind in ("ExtractBrain", "Harmonize"):
        assert {node.inputs.device for node in of(kind, found)} == {device}
        assert {node.is_gpu_node() for node in of(kind, found)} == {gpu}
    assert not any(node.is_gpu_node() for node in (*of("CorrectBias", found), *of("WriteHarmonized", found)))


def test_memory_follows_the_size_of_the_image(plan: Plan) -> None:
    small, large = sorted(node.mem_gb for node in of("CorrectBias", steps(plan)))
    assert 0 < small < large
    tight = steps(replace(plan, settings=replace(plan.settings, mem_gb=0.1)))
    assert max(node.mem_gb for node in tight.values()) <= 0.25  # Nipype's own least for nodes without work
    assert volume_gb(plan.images[1].path) == pytest.approx(60**3 * 4 / 1024**3)


def test_memory_of_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "x.nii.gz").write_bytes(b"no image")
    assert volume_gb(tmp_path / "x.nii.gz") == TYPICAL_GB == volume_gb(tmp_path / "absent.nii.gz")


def _hashes(found: dict[str, Node]) -> dict[str, str]:
    return {name: node.inputs.get_hashval()[1] for name, node in found.items() if hasattr(node.inputs, "depends_on")}


def test_every_step_knows_the_version_and_those_with_weights_the_weights(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a kept work folder gives the old image under the new weights' name."""
    before = _hashes(steps(plan))
    architecture = {**plan.card["architecture"], "knots": 5}
    changes: list[tuple[Plan, set[str]]] = [
        (replace(plan, card={**plan.card, "architecture": architecture}), {"Harmonize", "EncodeReference"}),
        (replace(plan, preprocessing={**plan.preprocessing, "brain_weights": "c"}), {"ExtractBrain"}),
        (
            replace(plan, preprocessing={**plan.preprocessing, "template_sha256": "u"}),
            {"Register", "CorrectBias", "WhiteStripe"},
        ),
    ]
    for changed, kinds in changes:
        found = steps(changed)
        after = _hashes(found)
        assert {type(found[name].interface).__name__ for name in before if after[name] != before[name]} >= kinds
    monkeypatch.setattr(nodes, "version", lambda: "99")
    after = _hashes(steps(plan))
    assert all(after[name] != before[name] for name in before)


def test_crash_file_and_run_take_no_part_in_the_hash(plan: Plan) -> None:
    other = replace(plan, settings=replace(plan.settings, run_id="later"))
    assert _hashes(steps(plan)) == _hashes(steps(other))


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"skull_strip": "none"}, "came without their skull"),
        ({"skull_strip": "synthstrip"}, "SynthStrip"),
        ({"registration": "rigid"}, "with ANTs (rigid"),
        ({"bias_correction": "plain"}, "was corrected with N4"),
        ({"bias_correction": "none"}, "was not corrected"),
        ({"template": "MNI152NLin6Asym"}, "registered to MNI152NLin6Asym"),
    ],
)
def test_the_methods_text_says_what_runs(plan: Plan, option: dict[str, str], words: str) -> None:
    assert words not in methods_text(plan)
    assert words in methods_text(replace(plan, settings=replace(plan.settings, **option)))
    assert "the reference (sub02 (participant))" in methods_text(plan)


def test_the_field_needs_the_registration_and_is_written_where_it_was_asked_for(plan: Plan) -> None:
    """The template can tell where white matter lies only once the scan lies on it."""
    found = steps(replace(plan, settings=replace(plan.settings, bias_correction="none")))
    assert {node.inputs.method for node in of("CorrectBias", found)} == {"none"}

    def connected(plan: Plan, kind: str) -> list[set[str]]:
        workflow = init_participants_wf(plan)
        graph = workflow._create_flat_graph()
        of_kind = [node for node in graph if type(node.interface).__name__ == kind]
        return [{to for *_, data in graph.in_edges(node, data=True) for _, to in data["connect"]} for node in of_kind]

    assert all(names >= {"forward", "backward", "overlap"} for names in connected(plan, "CorrectBias"))
    assert not any("field" in names for names in connected(plan, "WritePreprocessed"))
    asked = replace(plan, settings=replace(plan.settings, save_bias_field=True))
    assert all("field" in names for names in connected(asked, "WritePreprocessed"))


def test_building_a_workflow_writes_nothing(plan: Plan, tmp_path: Path, walk: Callable[[Path], set[Path]]) -> None:
    before = walk(tmp_path)
    assert isinstance(init_participants_wf(plan), Workflow)
    assert walk(tmp_path) == before


@pytest.fixture
def walk() -> Callable[[Path], set[Path]]:
    return lambda folder: set(folder.rglob("*"))


def test_scans_of_one_person_meet_before_they_are_registered(plan: Plan) -> None:
    """As a graph without circles; the reference, one of the two, is preprocessed by itself, too."""
    first, second = (replace(image, entities=(("sub", "01"), ("ses", str(n)))) for n, image in enumerate(plan.images))
    shared = replace(plan, images=(first, second), together=(first, second))
    found = steps(shared)
    assert [len(of(kind, found)) for kind in ("FindMidSpace", "PlaceVisit", "Register", "Conform")] == [1, 2, 1, 3]
    graph = init_participants_wf(shared)._create_flat_graph()
    (meet,) = (node for node in graph if type(node.interface).__name__ == "FindMidSpace")
    assert {type(node.interface).__name__ for node in graph.successors(meet)} == {"PlaceVisit"}
    assert sorted(node.inputs.index for node in of("PlaceVisit", found)) == [0, 1]
    assert "midway between them" in methods_text(shared)
    assert "midway between them" not in methods_text(plan)


def test_a_site_has_one_mean_of_scans_that_are_preprocessed_once(plan: Plan) -> None:
    site = ReferenceRequest("A", "site", "bb", plan.images, ("aa", "ab"))
    shared = replace(plan, site_curves={image.stem: site for image in plan.images[:1]})
    graph = init_participants_wf(shared)._create_flat_graph()
    assert len([node for node in graph if type(node.interface).__name__ == "Conform"]) == 2
    taken = {
        node.name: [names for _, _, links in graph.in_edges(node, data=True) for _, names in links["connect"]]
        for node in graph
        if type(node.interface).__name__ == "Harmonize"
    }
    assert {name: "site_file" in names for name, names in taken.items()} == {
        "harmonize_sub_01_to_sub02": True,
        "harmonize_sub_02_to_sub02": False,
    }
    assert all("reference_file" in names for names in taken.values())
    one, other = (shared.parameters(image, "", plan.references[0]) for image in plan.images)
    assert one["curve"] == {"sha256": "bb", "masks": ()} and "curve" not in other
    assert "one curve" in methods_text(replace(shared, settings=replace(plan.settings, curve="site")))
    assert "one curve:" not in methods_text(plan)


@pytest.fixture
def three_visits(plan: Plan) -> Plan:
    """Of one person; the first two are of one scanner, nothing is known of the third."""
    folder = plan.settings.bids_dir
    visits = []
    for run in ("1", "2", "3"):
        path = folder / "sub-01" / "anat" / f"sub-01_run-{run}_T1w.nii.gz"
        nib.Nifti1Image(np.zeros((8, 8, 8), np.float32), np.eye(4)).to_filename(path)
        if run != "3":
            path.with_name(f"sub-01_run-{run}_T1w.json").write_text('{"ManufacturersModelName": "A"}')
        visits.append(T1w.from_path(path, folder))
    return replace(plan, images=tuple(visits), together=tuple(visits))


def test_scans_of_one_scanner_share_their_curve(plan: Plan, three_visits: Plan) -> None:
    visits = three_visits.together
    alike = [[one.stem for one in three_visits.alike(visit)] for visit in visits]
    assert alike == [["sub-01_run-2"], ["sub-01_run-1"], []]
    graph = init_participants_wf(three_visits)
    merges = {name for name in graph.list_node_names() if name.startswith("merge_others")}
    assert merges == {f"merge_{what}_sub_01_run_{run}" for what in ("others", "others_seen") for run in "12"}
    assert len(of("Harmonize", steps(three_visits))) == 3
    hashes = [three_visits.parameters(visit, "", plan.references[0]).get("alike") for visit in visits]
    assert hashes == [["sub-01_run-2"], ["sub-01_run-1"], None]
    painting = replace(three_visits, card={**plan.card, "architecture": {"kind": "paper"}})
    assert painting.sharing_curve(visits[0]) == ()
    assert painting.sharing_field(visits[0]) == (visits[1],)


def test_scans_of_one_scanner_share_what_is_left_of_their_fields(three_visits: Plan) -> None:
    graph = init_participants_wf(three_visits)._create_flat_graph()
    (find,) = (node for node in graph if type(node.interface).__name__ == "FindDeviations")
    shares = [node for node in graph.successors(find) if type(node.interface).__name__ == "ShareField"]
    assert {node.name: node.inputs.index for node in shares} == {
        "share_field_sub_01_run_1": 0,
        "share_field_sub_01_run_2": 1,
    }
    assert "Lewis and Fox 2004" in methods_text(three_visits)
    left = replace(three_visits, settings=replace(three_visits.settings, bias_correction="none"))
    assert not of("FindDeviations", steps(left))
    assert "Lewis and Fox 2004" not in methods_text(left)
