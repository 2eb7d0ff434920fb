"""What simple learners make of an embedding: a linear classifier, and clusters without labels."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from siamese.evaluation.blocks import Rows
from siamese.evaluation.names import Undefined, Values, undefined

FOLDS = 5
ITERATIONS = 100
MOST_FITTED = 600_000  # images times classes, beyond which the linear probe takes minutes
FEW = 100  # classes up to which k-means has time to start well


def linear_probe(rows: Rows, most_classes: int | None = None) -> float | Undefined:
    """The share of images that a linear classifier tells the class of, by 5-fold cross-validation
    among them, stratified: it is fitted on images of this part, but never on the one it is asked about.

    The classifier is multinomial logistic regression on standardised dimensions, with scikit-learn's
    default penalty (C = 1), by L-BFGS to its default tolerance (10 to 30 iterations as a rule) or for 100 iterations.
    """
    least = int(rows.counts.min())
    if len(rows.counts) < 2:
        return Undefined("there is one class only")
    if reason := too_many(rows, most_classes):
        return Undefined(reason)
    if (size := len(rows.labels) * len(rows.counts)) > MOST_FITTED:
        return Undefined(f"it is fitted up to {MOST_FITTED:,} images times classes, found {size:,}")
    if least < FOLDS:
        return Undefined(f"it needs {FOLDS} images of each class, one a fold, found a class of {least}")
    embeddings, right = rows.unit.numpy(), 0
    for fit, asked in StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(embeddings, rows.labels):
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=ITERATIONS))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # of an embedding near collapse, after a stated effort
            classifier.fit(embeddings[fit], rows.labels[fit])
        right += int((classifier.predict(embeddings[asked]) == rows.labels[asked]).sum())
    return right / len(embeddings)


def clustering(rows: Rows, most_classes: int | None = None) -> Values:
    """nmi and ami: the normalised (by the arithmetic mean) and the adjusted mutual information of the classes with the
    clusters of k-means, as many as there are classes: up to 100, the best of 4 starts of k-means++; beyond, one start
    from random images and 25 rounds at most (faiss's own settings), which is what the field's numbers of thousands of
    classes are from."""
    names = ("nmi", "ami")
    classes, images = len(rows.counts), len(rows.labels)
    if classes < 2 or classes == images:
        reason = "there is one class only" if classes < 2 else "every image has a class of its own"
        return undefined(names, reason)
    if reason := too_many(rows, most_classes):
        return undefined(names, reason)
    if different(rows.unit.numpy()) < classes:
        return undefined(names, f"there are fewer different embeddings than the {classes} classes")
    effort = {"init": "k-means++", "n_init": 4} if classes <= FEW else {"init": "random", "n_init": 1, "max_iter": 25}
    found = KMeans(classes, random_state=0, **effort).fit_predict(rows.unit.numpy().astype(np.float32))
    scores = {"nmi": normalized_mutual_info_score, "ami": adjusted_mutual_info_score}
    return {name: float(score(rows.labels, found)) for name, score in scores.items()}


def different(embeddings: np.ndarray) -> int:
    """How many different rows there are, or as many as their first dimension tells apart, if that is more than half."""
    first = len(np.unique(embeddings[:, 0]))
    return first if 2 * first > len(embeddings) else len(np.unique(embeddings, axis=0))


def too_many(rows: Rows, most_classes: int | None) -> str:
    """Why what grows with images times classes is not measured of ``rows``, or nothing."""
    if most_classes is None or len(rows.counts) <= most_classes:
        return ""
    return f"it is measured up to evaluation.most_classes={most_classes} classes, found {len(rows.counts):,}"
