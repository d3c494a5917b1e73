"""What a diagnosis is found from: rows of features, each of a person at a site, and what is to be told from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pandas as pd

from imunity_bids.errors import DataUnusable, InputMissing, Usage

LEAST = 10  # persons of a site that is used
COVARIATES = ("age", "sex")


@dataclass(frozen=True)
class Rows:
    """n rows.

    Attributes
    ----------
    features
        (n, F), finite.
    person, site
        (n,) text. What is of one person is never on both sides; of simulated persons their label map counts.
    target
        (n,): 0 and 1 for the two `classes` in their order, or numbers.
    classes
        Of a diagnosis; empty where the target is a number.
    covariates
        (n, C): age and sex (F 0, M 1) where all rows have them, without the target.
    """

    features: np.ndarray
    person: np.ndarray
    site: np.ndarray
    target: np.ndarray
    classes: tuple[str, ...]
    covariates: np.ndarray

    def __len__(self) -> int:
        return len(self.features)

    def take(self, index: np.ndarray) -> Rows:
        """Rows with these numbers, or where this is true."""
        parts = (self.features, self.person, self.site, self.target)
        return Rows(*(part[index] for part in parts), self.classes, self.covariates[index])

    def showing(self, features: np.ndarray) -> Rows:
        """The same rows with other features."""
        return replace(self, features=features)


def read_table(file: Path, site_column: str = "site") -> pd.DataFrame:
    """A CSV or TSV with a row per person and the columns `subject`, `site`, and what else there is.

    Raises
    ------
    InputMissing, DataUnusable
        No such file; or no column of persons or of sites.
    """
    if not file.is_file():
        raise InputMissing(f"--table {file}: no such file")
    table = pd.read_csv(file, sep=None, engine="python", na_values=["n/a"])
    table = table.rename(columns={site_column: "site", "participant_id": "subject"})
    if missing := sorted({"subject", "site"} - set(table)):
        raise DataUnusable(
            f"{file.name} has no column {' and no column '.join(missing)}; there are: {_some(table.columns)}"
        )
    return table


def rows_of(table: pd.DataFrame, target: str, pattern: str = "f_*", name: str = "table") -> Rows:
    """Rows whose site and target are known, of sites with `LEAST` persons at least; missing features become medians.

    Parameters
    ----------
    table
        Columns `subject`, `site`, the target, features, `age` and `sex` where they are known, and `family` where
        subjects resemble each other.
    target
        A column of two values (a diagnosis; the second one in the alphabet counts as positive), or of numbers.
    pattern
        What the names of features look like.

    Raises
    ------
    Usage, DataUnusable
        No such target or no feature; or no site left, or a target that is neither two values nor numbers.
    """
    if target not in table:
        raise Usage(f"{name} has no column {target} (--target); there are: {_some(table.columns)}")
    columns = [column for column in table if fnmatch(column, pattern) and column not in (target, "subject", "site")]
    if not columns:
        raise Usage(f"{name} has no columns {pattern} (--features); there are: {_some(table.columns)}")
    table = table.dropna(subset=[target, "site"])
    table = table[table.groupby("site").subject.transform("nunique") >= LEAST]
    if table.empty:
        raise DataUnusable(f"{name}: no site with {LEAST} persons whose {target} is known")
    values, classes = _target(table[target], name)
    features = table[columns].apply(pd.to_numeric, errors="coerce")
    features = features.loc[:, features.notna().any()]
    return Rows(
        features.fillna(features.median()).to_numpy(float),
        (table.family if "family" in table else table.subject).astype(str).to_numpy(str),
        table.site.astype(str).to_numpy(str),
        values,
        classes,
        _covariates(table, target),
    )


def _target(column: pd.Series, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    classes = tuple(sorted(column.astype(str).unique()))
    if len(classes) == 2:
        return (column.astype(str) == classes[1]).to_numpy(float), classes
    numbers = pd.to_numeric(column, errors="coerce")
    if len(classes) < 2 or numbers.isna().any():
        raise DataUnusable(f"{name}: {column.name} is neither two values nor numbers ({_some(classes)}; --target)")
    return numbers.to_numpy(float), ()


def _covariates(table: pd.DataFrame, target: str) -> np.ndarray:
    """Age and sex that all rows have and that vary, (n, C)."""
    found = {
        "age": lambda: pd.to_numeric(table.age, errors="coerce"),
        "sex": lambda: table.sex.map({"F": 0.0, "M": 1.0}),
    }
    columns = [found[name]() for name in COVARIATES if name in table and name != target]
    columns = [column for column in columns if column.notna().all() and column.nunique() > 1]
    return np.stack(columns, axis=1) if columns else np.zeros((len(table), 0))


def _some(names: object) -> str:
    """The first of many names."""
    listed = [str(name) for name in names]
    return ", ".join(listed[:12]) + (" …" if len(listed) > 12 else "")
