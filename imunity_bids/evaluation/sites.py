"""Can a classifier tell the scanner from an image? (Cackowski 2023, section 3.2, with radiomics-like features.)"""

from __future__ import annotations

import pandas as pd


def site_accuracy(table: pd.DataFrame, group: str = "person") -> float:
    """Mean over sites of the share of its images that a support vector machine with radial kernel tells.

    Lower is better harmonization; chance is one by the number of sites. Persons are left out in turn (ten folds at
    most). `table` has the columns `site`, `method`, `person`, `group` (one of these) and features.
    """
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    features = table.drop(columns=["site", "method", "person"]).to_numpy()
    classifier = make_pipeline(StandardScaler(), SVC(C=10, class_weight="balanced"))
    folds = GroupKFold(min(10, table[group].nunique()))
    predicted = cross_val_predict(classifier, features, table.site, groups=table[group], cv=folds)
    return float(balanced_accuracy_score(table.site, predicted))
