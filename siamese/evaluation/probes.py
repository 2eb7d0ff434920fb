"""What simple learners make of an embedding: a linear classifier, and clusters without labels."""

from __future__ import annotations

import numpy as np
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from siamese.evaluation.blocks import Rows
from siamese.evaluation.names import Undefined, Values, undefined

FOLDS = 5


def linear_probe(rows: Rows) -> float | Undefined:
    """The share of images that a linear classifier tells the class of, by 5-fold cross-validation
    among them, stratified: it is fitted on images of this part, but never on the one it is asked about.

    The classifier is multinomial logistic regression on standardised dimensions, with scikit-learn's
    default penalty (C = 1), by L-BFGS to its default tolerance: 10 to 30 iterations as a rule.
    """
    least = int(rows.counts.min())
    if len(rows.counts) < 2:
        return Undefined("there is one class only")
    if least < FOLDS:
        return Undefined(f"it needs {FOLDS} images of each class, one a fold, found a class of {least}")
    embeddings, right = rows.unit.numpy(), 0
    for fit, asked in StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(embeddings, rows.labels):
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        classifier.fit(embeddings[fit], rows.labels[fit])
        right += int((classifier.predict(embeddings[asked]) == rows.labels[asked]).sum())
    return right / len(embeddings)


def clustering(rows: Rows) -> Values:
    """nmi and ami: the normalised (by the arithmetic mean) and the adjusted mutual information of the
    classes with the clusters of k-means, as many as there are classes, the best of 4 starts."""
    classes, images = len(rows.counts), len(rows.labels)
    if classes < 2 or classes == images:
        reason = "there is one class only" if classes < 2 else "every image has a class of its own"
        return undefined(("nmi", "ami"), reason)
    if len(np.unique(rows.unit.numpy(), axis=0)) < classes:
        return undefined(("nmi", "ami"), f"there are fewer different embeddings than the {classes} classes")
    found = KMeans(classes, n_init=4, random_state=0).fit_predict(rows.unit.numpy().astype(np.float32))
    scores = {"nmi": normalized_mutual_info_score, "ami": adjusted_mutual_info_score}
    return {name: float(score(rows.labels, found)) for name, score in scores.items()}
