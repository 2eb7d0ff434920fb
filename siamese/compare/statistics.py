"""What paired differences say, with the seed as the unit of replication.

Pure functions of float64 arrays. ``differences`` is always [n]: one number a seed, this group's value
minus the baseline's (or the logarithm of their ratio), the same seed on both sides.

Sources, named again at each formula: Student 1908 (t interval); Fisher 1935 (sign flips); Phipson and
Smyth 2010 (p values of drawn permutations); Wilcoxon 1945; Efron 1987 (BCa); Holm 1979; Schuirmann 1987
(two one-sided tests); Hedges 1981 and Cohen 1988 (effect size, power).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import lru_cache

import numpy as np
from scipy import special, stats

ALPHA = 0.05
POWER = 0.8
ENUMERATED = 16  # up to this n all 2^n sign flips are taken
DRAWN = 99_999  # sign flips drawn above that
BOOTSTRAP_FROM = 10  # BCa intervals from fewer seeds cover too little
RESAMPLES = 9_999
MOST_SEEDS = 10_000
LEAST_SEEDS = 3  # for a verdict: two differences hardly tell how much they vary


class Verdict(StrEnum):
    DIFFERENT = "DIFFERENT"
    EQUIVALENT = "EQUIVALENT"
    NEGLIGIBLE = "DIFFERENT BUT NEGLIGIBLE"
    INCONCLUSIVE = "INCONCLUSIVE"


def spread(values: np.ndarray) -> float:
    """Standard deviation [n] → scalar with n − 1 below; rounding noise counts as zero."""
    deviation = float(np.std(values, ddof=1))
    return 0.0 if deviation <= 1e-12 * float(np.max(np.abs(values))) else deviation


def t_interval(values: np.ndarray, confidence: float = 1 - ALPHA) -> tuple[float, float]:
    """The interval of the mean of ``values`` [n]: mean ± t(n−1, (1 + confidence)/2) · s/√n (Student 1908).

    Raises:
        ValueError: for fewer than two values.
    """
    low, high = t_intervals(values[:, None], confidence)
    return float(low[0]), float(high[0])


def t_intervals(table: np.ndarray, confidence: float = 1 - ALPHA) -> tuple[np.ndarray, np.ndarray]:
    """The lower and upper ends [k] of the :func:`t_interval` of each column of ``table`` [n, k].

    Raises:
        ValueError: for fewer than two rows.
    """
    _at_least_two(table)
    low = high = table.mean(0)
    varies = np.array([spread(column) > 0 for column in table.T])  # of rounding noise scipy would make an interval
    if varies.any():
        ends = stats.ttest_1samp(table[:, varies], 0.0).confidence_interval(confidence)
        low, high = low.copy(), high.copy()
        low[varies], high[varies] = ends
    return low, high


def paired_t(differences: np.ndarray) -> float:
    """Two-sided p of mean zero: t = mean·√n / s with n − 1 degrees of freedom (Student 1908).

    Raises:
        ValueError: for fewer than two differences, or differences that do not vary (t has no value).
    """
    _varying(differences)
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def sign_flip(differences: np.ndarray, one_sided: bool = False) -> tuple[float, bool]:
    """p of the mean under all sign flips of ``differences`` (Fisher 1935, §21), and whether it is exact.

    Exact means that all 2^n flips are taken (n ≤ 16): the share of them whose mean is at least as far from zero, or
    where ``one_sided``, at least as large. Above, 99,999 flips are drawn from seed 0 and p = (hits + 1)/(draws + 1)
    (Phipson and Smyth 2010, eq. 2). What is flipped is assumed to be symmetric, not normal.

    Not by scipy's ``permutation_test``, whose tolerance for ties is relative to the observed sum, so that it misses
    those of a sum near zero, and which takes fifty times as long for 2^16 flips.

    Raises:
        ValueError: for no differences, none but zeros (which no flip changes), and what is no finite number.
    """
    d = _finite(differences)
    if not np.any(d):
        raise ValueError("every difference is zero" if len(d) else "expected differences, found none")
    exact = len(d) <= ENUMERATED
    sums = _flips(len(d)) @ d
    sums = np.concatenate([sums, -sums]) if exact else sums
    observed, rounding = d.sum(), 1e-12 * np.abs(d).sum()
    as_far = sums >= observed - rounding if one_sided else np.abs(sums) >= abs(observed) - rounding
    hits = int(np.count_nonzero(as_far))
    return (hits / len(sums), True) if exact else ((hits + 1) / (DRAWN + 1), False)


@lru_cache(maxsize=4)
def _flips(n: int) -> np.ndarray:
    """Signs [flips, n]: half of all 2^n, which the other half mirrors, or those that are drawn."""
    if n <= ENUMERATED:
        return 1.0 - 2.0 * ((np.arange(2 ** (n - 1))[:, None] >> np.arange(n)) & 1)
    return np.random.default_rng(0).choice([-1.0, 1.0], size=(DRAWN, n))


def sign_flip_reaches(n: int, family: int, one_sided: bool = False, alpha: float = ALPHA) -> bool:
    """Whether ``n`` sign flips can be below ``alpha`` at all after Holm's adjustment over ``family`` comparisons: the
    least p of all flips is 2/2^n, or half of it where ``one_sided``."""
    least = (1 if one_sided else 2) / 2**n if n <= ENUMERATED else 1 / (DRAWN + 1)
    return family * least < alpha


def wilcoxon(differences: np.ndarray) -> float | None:
    """Two-sided p of the signed-rank test (Wilcoxon 1945; zeros dropped; exact up to 50 without ties).
    None where every difference is zero."""
    if not np.any(differences):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy warns of small n where it turns to the normal approximation
        return float(stats.wilcoxon(differences).pvalue)


def bca_interval(differences: np.ndarray, confidence: float = 1 - ALPHA) -> tuple[float, float] | None:
    """Bias-corrected and accelerated bootstrap interval of the mean (Efron 1987, eq. 2.3), 9,999 resamples
    from seed 0. None below ten differences, where it covers too little, and where they do not vary."""
    if len(differences) < BOOTSTRAP_FROM or spread(differences) == 0:
        return None
    found = stats.bootstrap(
        (differences,),
        np.mean,
        vectorized=True,
        n_resamples=RESAMPLES,
        confidence_level=confidence,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Step-down adjusted p values (Holm 1979): the i-th smallest times (m − i), made monotone, at most 1.

    Raises:
        ValueError: for what is no p value: NaN, or outside 0 to 1.
    """
    m = len(p_values)
    for p in p_values:
        if not 0 <= p <= 1:  # NaN is not
            raise ValueError(f"expected p values from 0 to 1, found {p}")
    adjusted, highest = [0.0] * m, 0.0
    for rank, i in enumerate(sorted(range(m), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (m - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def tost(differences: np.ndarray, margin: float) -> float:
    """p of the two one-sided t tests that the mean lies within ±``margin`` (Schuirmann 1987): the larger of both.
    Below 0.05 exactly where the 90 % t interval lies inside the margin.

    Raises:
        ValueError: for fewer than two differences, or differences that do not vary.
    """
    _varying(differences)
    below = stats.ttest_1samp(differences, margin, alternative="less").pvalue
    above = stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
    return float(max(below, above))


def tost_flip(differences: np.ndarray, margin: float) -> float:
    """p of the two one-sided sign-flip tests that the mean lies within ±``margin``: the larger of both.

    Raises:
        ValueError: for no differences, and those that all equal the margin, on either side.
    """
    return max(sign_flip(margin - differences, one_sided=True)[0], sign_flip(margin + differences, one_sided=True)[0])


def hedges_gz(differences: np.ndarray) -> float:
    """Standardised mean of paired differences: Cohen's d_z = mean/s (Cohen 1988, §2.3.5) times Hedges' correction
    for small n, J(f) = Γ(f/2) / (√(f/2)·Γ((f−1)/2)) with f = n − 1 (Hedges 1981, eq. 6e).

    Raises:
        ValueError: for fewer than three differences (J has no value), or differences that do not vary.
    """
    f = len(differences) - 1
    if f < 2:
        raise ValueError("an effect size needs three differences")
    correction = math.exp(math.lgamma(f / 2) - math.lgamma((f - 1) / 2)) / math.sqrt(f / 2)
    return correction * float(np.mean(differences)) / _varying(differences)


def power_to_detect(n: int, margin: float, deviation: float, alpha: float = ALPHA) -> float:
    """Power of the two-sided paired t test when the true mean is ``margin`` and the differences' standard
    deviation is ``deviation``: noncentral t with n − 1 degrees of freedom, noncentrality margin·√n/s (Cohen 1988)."""
    critical = float(special.stdtrit(n - 1, 1 - alpha / 2))
    shift = margin * math.sqrt(n) / deviation
    return 1 - noncentral_t(critical, n - 1, shift) + noncentral_t(-critical, n - 1, shift)


def power_to_equate(n: int, margin: float, deviation: float, alpha: float = ALPHA) -> float:
    """Power of the two one-sided tests when the true mean is zero, by Bonferroni's bound 1 − 2β with β the chance
    that one of them misses (Schuirmann 1987; exact but for the chance that both miss)."""
    critical = float(special.stdtrit(n - 1, 1 - alpha))
    return max(0.0, 1 - 2 * noncentral_t(critical, n - 1, margin * math.sqrt(n) / deviation))


def noncentral_t(x: float, freedom: int, shift: float) -> float:
    """P(T ≤ x) of the noncentral t distribution. Far out in a tail, where scipy's series ends in NaN, it is the normal
    approximation of Abramowitz and Stegun (1964), eq. 26.7.10."""
    p = float(special.nctdtr(freedom, shift, x))
    if math.isnan(p):
        p = float(special.ndtr((x * (1 - 1 / (4 * freedom)) - shift) / math.sqrt(1 + x * x / (2 * freedom))))
    return p


def seeds_needed(margin: float, deviation: float, alpha: float = ALPHA, power: float = POWER) -> int | None:
    """The fewest paired seeds that would settle a comparison with probability ``power``: that detect a true
    difference as large as ``margin``, and that show a true difference of zero to be within it.

    None above 10,000; at least three, the least of any verdict. The observed difference does not enter: power at the
    effect that was just observed only restates p (Hoenig and Heisey 2001).

    Raises:
        ValueError: for a margin, deviation, alpha or power that is not above zero and finite.
    """
    for name, value in {"margin": margin, "deviation": deviation, "alpha": alpha, "power": power}.items():
        if not 0 < value < math.inf:
            raise ValueError(f"expected a {name} above 0, found {value}")

    def enough(n: int, reached: Callable[[int, float, float, float], float]) -> bool:
        return reached(n, margin, deviation, alpha) >= power

    most = LEAST_SEEDS
    for reached in (power_to_detect, power_to_equate):
        low, high = 1, most
        while not enough(high, reached):
            low, high = high, 2 * high
            if low > MOST_SEEDS:
                return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if enough(middle, reached) else (middle, high)
        most = max(most, high)
    return most if most <= MOST_SEEDS else None


def verdict(p_different: float, p_equivalent: float | None, alpha: float = ALPHA) -> Verdict:
    """What two adjusted p values allow to be said; a large ``p_different`` alone says nothing.

    ``p_equivalent`` is None for a measure that has no margin: it can then be different, or inconclusive.
    """
    different = p_different < alpha
    within = p_equivalent is not None and p_equivalent < alpha
    if different:
        return Verdict.NEGLIGIBLE if within else Verdict.DIFFERENT
    return Verdict.EQUIVALENT if within else Verdict.INCONCLUSIVE


def _at_least_two(values: np.ndarray) -> int:
    if len(values) < 2:
        raise ValueError(f"expected at least two values, found {len(values)}")
    return len(values)


def _finite(values: np.ndarray) -> np.ndarray:
    found = np.asarray(values, dtype=np.float64)
    if not np.isfinite(found).all():
        raise ValueError(f"expected finite numbers, found {found[~np.isfinite(found)][0]}")
    return found


def _varying(values: np.ndarray) -> float:
    """The spread of ``values``, which scipy's tests would take rounding noise for."""
    _at_least_two(values)
    deviation = spread(values)
    if deviation == 0:
        raise ValueError("the values do not vary")
    return deviation
