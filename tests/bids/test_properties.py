"""Names, filters and paths, for inputs that nobody thought of."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imunity_bids.bids.inputs import T1w, find_t1w
from imunity_bids.bids.outputs import derivative, sidecar_of, transform_path
from imunity_bids.bids.sidecars import write_dataset_files
from imunity_bids.bids.sites import scans_of_site
from imunity_bids.errors import NothingSelected

LABELS = st.text("abcdefXYZ0189+", min_size=1, max_size=6)
# entities of a raw T1w image, in the order of BIDS 1.11; part and echo included
RAW = ("ses", "sample", "acq", "ce", "trc", "rec", "dir", "run", "mod", "echo", "flip", "inv", "mt", "part", "chunk")
INDICES = {"run", "echo", "flip", "inv", "chunk"}
# what may be in a path: letters of any script, spaces, plus, minus, dots, brackets; no slash
FOLDERS = st.text("abé üß漢字+-_.,()[]{}'&%#~ ", min_size=1, max_size=12).filter(lambda name: name.strip(". "))
# the same examples in every run: a failure is somebody's change, not chance
quick = settings(deadline=None, max_examples=100, derandomize=True)
slow = settings(deadline=None, max_examples=12, derandomize=True)  # each makes files


def value(key: str) -> st.SearchStrategy[str]:
    return st.integers(1, 99).map(str) if key in INDICES else LABELS


@st.composite
def names(draw: st.DrawFn) -> str:
    """File name of a raw T1w image: sub, and any other entities, in order."""
    chosen = draw(st.sets(st.sampled_from(RAW)))
    pairs = [("sub", draw(LABELS))] + [(key, draw(value(key))) for key in RAW if key in chosen]
    extension = draw(st.sampled_from([".nii", ".nii.gz"]))
    return "_".join(f"{key}-{label}" for key, label in pairs) + f"_T1w{extension}"


def source(name: str, root: Path = Path("/data")) -> T1w:
    """As it lies in a dataset."""
    entities = dict(part.partition("-")[::2] for part in name.split("_")[:-1])
    folder = root / f"sub-{entities['sub']}"
    return T1w.from_path((folder / f"ses-{entities['ses']}" if "ses" in entities else folder) / "anat" / name, root)


def written_for(image: T1w) -> list[Path]:
    """All that the app may write for an image."""
    out, space = Path("/out"), {"space": "X", "res": "1"}
    images = [
        derivative(out, image, suffix, ".nii.gz", **place, desc=desc)
        for place in ({}, space)
        for suffix, desc in (("mask", "brain"), ("T1w", "preproc"), ("T1w", "harmonized"), ("T1w", "harmonized+B"))
    ]
    moves = [transform_path(out, image, *ends) for ends in (("T1w", "X"), ("X", "T1w"))]
    return [*images, *map(sidecar_of, images), *moves]


@quick
@given(names())
def test_a_name_can_be_read_and_written_back(name: str) -> None:
    image = source(name)
    assert f"{image.stem}_T1w{''.join(Path(name).suffixes[-1:] if name.endswith('.nii') else ['.nii.gz'])}" == name
    again = source(f"{image.stem}_T1w.nii.gz")
    assert (again.entities, again.person) == (image.entities, image.person)
    assert image.uri == f"bids:raw:{image.path.relative_to('/data').as_posix()}"


@quick
@given(names())
def test_every_entity_survives_in_every_derivative(name: str) -> None:
    image = source(name)
    for path in written_for(image):
        found = [part.partition("-")[::2] for part in path.name.split("_")[:-1]]
        assert set(image.entities) <= set(found), path
        assert len({key for key, _ in found}) == len(found), "an entity twice"
        assert path.parent == Path("/out") / image.path.parent.relative_to("/data")


@quick
@given(names())
def test_entities_follow_bids_and_desc_is_last(name: str) -> None:
    order = order_of_bids()
    for path in written_for(source(name)):
        keys = [part.partition("-")[0] for part in path.name.split("_")[:-1]]
        if path.suffix != ".mat":  # from, to and mode of transforms are no entities of BIDS yet
            assert keys == sorted(keys, key=order.index)
            assert keys[-1] == "desc"


@lru_cache
def order_of_bids() -> list[str]:
    """All entities in the order of BIDS' own schema, which pybids brings along."""
    schema = pytest.importorskip("bidsschematools.schema").load_schema()
    return [schema.objects.entities[key]["name"] for key in schema.rules.entities]


def test_the_entities_of_these_tests_are_those_of_bids() -> None:
    assert set(order_of_bids()) >= {"sub", *RAW, "space", "res", "desc"}
    assert sorted(RAW, key=order_of_bids().index) == list(RAW)


@quick
@given(st.lists(names(), min_size=2, max_size=6, unique_by=lambda name: name.split("_T1w")[0]))
def test_two_sources_never_share_a_file(given_names: list[str]) -> None:
    everything = [path for name in given_names for path in written_for(source(name))]
    assert len(set(everything)) == len(everything)


@contextmanager
def dataset(images: list[str], folder: str = "bids") -> Iterator[Path]:
    """Empty files of a dataset; hypothesis wants a new one for each example."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / folder
        root.mkdir()
        (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
        for name in images:
            path = source(name, root).path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        yield root


def plain(subject: str, session: str | None, acq: str | None) -> str:
    pairs = [("sub", subject), ("ses", session), ("acq", acq)]
    return "_".join(f"{key}-{label}" for key, label in pairs if label) + "_T1w.nii.gz"


few = st.sampled_from(["1", "01", "10", "a", "A1"])
collections = st.lists(
    st.builds(plain, few, st.none() | few, st.none() | few), min_size=1, max_size=8, unique_by=str.lower
)


@slow
@given(collections, st.sets(few, max_size=2), st.sets(few, max_size=2), st.none() | few)
def test_filters_select_exactly_the_subset(
    images: list[str], participants: set[str], sessions: set[str], acquisition: str | None
) -> None:
    with dataset(images) as root:
        filter_file = None
        if acquisition:
            filter_file = root.with_name("filter.json")
            filter_file.write_text(json.dumps({"t1w": {"acquisition": acquisition}, "bold": {"task": "rest"}}))
        everything = [dict(source(name).entities) | {"name": name} for name in images]
        fitting = [
            image
            for image in everything
            if (not sessions or image.get("ses") in sessions) and (not acquisition or image.get("acq") == acquisition)
        ]
        wanted = [image["name"] for image in fitting if not participants or image["sub"] in participants]
        call = (root, tuple(participants), tuple(sessions), filter_file)
        if not wanted or participants - {image["sub"] for image in fitting}:
            with pytest.raises(NothingSelected):
                find_t1w(*call)
        else:
            assert sorted(image.path.name for image in find_t1w(*call)) == sorted(wanted)


@slow
@given(FOLDERS)
def test_any_path_will_do(folder: str) -> None:
    name = "sub-a+b_ses-1_acq-x+y_T1w.nii.gz"
    with dataset([name], folder) as root:
        (root / "participants.tsv").write_text("participant_id\tsite\nsub-a+b\tÉcole\n", encoding="utf-8")
        (image,) = find_t1w(root)
        assert image.path == root / "sub-a+b" / "ses-1" / "anat" / name
        assert image.path.is_file()
        assert image.uri == f"bids:raw:sub-a+b/ses-1/anat/{name}"
        assert scans_of_site([image], root, "site", "École") == [image]
        out = root.with_name("out")
        write_dataset_files(out, {"raw": root.as_uri()}, "é")
        links = json.loads((out / "dataset_description.json").read_text(encoding="utf-8"))["DatasetLinks"]
        assert links["raw"].startswith("file:///")
        assert " " not in links["raw"]
        shutil.rmtree(out)
