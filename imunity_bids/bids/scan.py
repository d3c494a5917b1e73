"""One raw image, by the entities of its name, and the masks of it that somebody made before."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# Order of entities in a file name (BIDS 1.11, schema `rules/entities`), as far as an anatomical image can have them.
ENTITY_ORDER = (
    *("sub", "ses", "sample", "acq", "ce", "trc", "rec", "dir", "run", "mod", "echo", "flip", "inv", "mt", "part"),
    *("proc", "space", "chunk", "res", "label", "desc"),
)


RAW = "raw"  # what the dataset that is harmonized is called in BIDS URIs
UNIFORM = "UNIT1"  # suffix of MP2RAGE's uniform image, which is T1-weighted
MARK = "rec"  # entity that says so in the names of its derivatives, which are T1w


@dataclass(frozen=True)
class Given:
    """A mask that lies in the dataset or in one of `--derivatives`."""

    path: Path
    uri: str  # BIDS URI in our derivative dataset


@dataclass(frozen=True)
class T1w:
    """One raw image: its path and the entities of its name, in order."""

    path: Path
    bids_dir: Path
    entities: tuple[tuple[str, str], ...]
    twin: Path | None = None  # the same name with the other extension
    brain_mask: Given | None = None  # made before; None: it is computed
    lesions: tuple[Given, ...] = ()  # masks of what is kept out of every estimate
    dataset: str = RAW  # whose it is, in BIDS URIs

    @property
    def given(self) -> tuple[Given, ...]:
        """All masks that were made before."""
        return (*((self.brain_mask,) if self.brain_mask else ()), *self.lesions)

    @classmethod
    def from_path(cls, path: Path, bids_dir: Path, dataset: str = RAW) -> T1w:
        """Read the entities off the file name: nothing that is in it can get lost."""
        pairs = [part.partition("-")[::2] for part in path.name.split(".")[0].split("_")[:-1]]
        return cls(path, bids_dir, tuple(pairs), dataset=dataset)

    @property
    def subject(self) -> str:
        """Label without `sub-`."""
        return dict(self.entities)["sub"]

    @property
    def part(self) -> str:
        """Label of `part-`; empty where there is none."""
        return dict(self.entities).get("part", "")

    @property
    def session(self) -> str | None:
        """Label without `ses-`."""
        return dict(self.entities).get("ses")

    @property
    def person(self) -> str:
        """`sub-X[_ses-Y]`: whose report and table the image belongs to."""
        return f"sub-{self.subject}" + (f"_ses-{self.session}" if self.session else "")

    @property
    def suffix(self) -> str:
        """T1w, or UNIT1 where MP2RAGE's uniform image stands for it."""
        return UNIFORM if self.path.name.split(".")[0].endswith(f"_{UNIFORM}") else "T1w"

    @property
    def named(self) -> dict[str, str]:
        """Entities of all derivatives: those of the scan, and of a uniform image `rec-UNIT1`.

        So they do not collide with those of a T1w image beside it.
        """
        pairs = dict(self.entities)
        if self.suffix != UNIFORM:
            return pairs
        pairs[MARK] = f"{pairs[MARK]}+{UNIFORM}" if MARK in pairs else UNIFORM
        return {key: pairs[key] for key in sorted(pairs, key=place)}

    @property
    def stem(self) -> str:
        """Name of its derivatives without suffix and extension: one name for one unit of work."""
        return "_".join(f"{key}-{value}" for key, value in self.named.items())

    @property
    def uri(self) -> str:
        """BIDS URI in the derivative dataset."""
        return f"bids:{self.dataset}:{self.path.relative_to(self.bids_dir).as_posix()}"


def place(entity: str) -> int:
    """Where an entity stands in a file name; unknown ones come last."""
    return ENTITY_ORDER.index(entity) if entity in ENTITY_ORDER else len(ENTITY_ORDER)


def raw_name(stem: str) -> tuple[set[str], str]:
    """Entities (`sub-01`, …) and suffix of the raw file whose derivatives begin with `stem`."""
    entities = set(stem.split("_"))
    for entity in entities:
        if entity == f"{MARK}-{UNIFORM}":
            return entities - {entity}, UNIFORM
        if entity.startswith(f"{MARK}-") and entity.endswith(f"+{UNIFORM}"):
            return entities - {entity} | {entity.removesuffix(f"+{UNIFORM}")}, UNIFORM
    return entities, "T1w"
