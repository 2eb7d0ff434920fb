"""What is done by hand beside scipy agrees with it, and is right where scipy is not."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import stats as scipy_stats

from siamese.compare import statistics as st


def flipped_by_scipy(d: np.ndarray, **given: object) -> float:
    def distance(x: np.ndarray, axis: int) -> np.ndarray:
        return np.abs(np.sum(x, axis=axis))

    found = scipy_stats.permutation_test(
        (d,), distance, permutation_type="samples", alternative="greater", vectorized=True, **given
    )
    return float(found.pvalue)


@pytest.mark.parametrize("n", [3, 5, 8])
def test_sign_flips_are_scipys_where_all_are_taken(n: int) -> None:
    d = np.random.default_rng(n).normal(0.4, 1, n)
    assert st.sign_flip(d) == (flipped_by_scipy(d), True)


def test_sign_flips_are_scipys_where_they_are_drawn() -> None:
    d = np.random.default_rng(0).normal(0.3, 1, 20)
    p, exact = st.sign_flip(d)
    assert not exact
    theirs = flipped_by_scipy(d, n_resamples=st.DRAWN, rng=np.random.default_rng(1))
    assert p == pytest.approx(theirs, abs=5 * np.sqrt(2 * p * (1 - p) / st.DRAWN))


def test_a_flip_that_is_as_far_from_zero_but_for_rounding_counts() -> None:
    d = np.array([0.3, -0.1, -0.2])  # adds up to 0, as it does not in floating point: every flip is as far
    assert d.sum() != 0
    assert st.sign_flip(d) == (1.0, True)
    d = np.array([0.1, 0.2, -0.3, 0.7])
    sums = [abs(a + 2 * b + 3 * c + 7 * e) for a in (1, -1) for b in (1, -1) for c in (1, -1) for e in (1, -1)]
    assert st.sign_flip(d)[0] == sum(s >= 7 for s in sums) / 16


def test_sixteen_seeds_are_flipped_exactly_and_seventeen_are_not() -> None:
    d = np.random.default_rng(2).normal(0.3, 1, 17)
    assert st.sign_flip(d[:16])[1]
    assert not st.sign_flip(d)[1]


def test_rounding_noise_makes_no_interval_and_no_warning() -> None:
    d = np.array([0.91 - 0.90, 0.92 - 0.91, 0.93 - 0.92])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        low, high = st.t_interval(d)
        table = np.stack([d, np.zeros(3), np.array([1.0, 2.0, 4.0])], axis=1)
        lows, highs = st.t_intervals(table)
    assert low == high == d.mean()
    assert lows[:2].tolist() == highs[:2].tolist() == [d.mean(), 0.0]
    assert (lows[2], highs[2]) == pytest.approx(
        scipy_stats.t.interval(0.95, 2, 7 / 3, table[:, 2].std(ddof=1) / 3**0.5)
    )


def test_an_interval_of_each_column() -> None:
    table = np.random.default_rng(3).normal(1, 2, (6, 4))
    ends = [st.t_interval(table[:, i], 0.9) for i in range(4)]
    assert np.stack(st.t_intervals(table, 0.9), axis=1) == pytest.approx(np.array(ends))
    with pytest.raises(ValueError, match="at least two"):
        st.t_intervals(table[:1])
