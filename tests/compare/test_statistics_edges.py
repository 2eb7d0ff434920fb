"""The statistics at the edges of what they take: two seeds, another scale, the last number of seeds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from siamese.compare import statistics as st

D = np.array([0.3, -0.1, 0.2, 0.4, 0.25, 0.1, 0.35, -0.05, 0.15, 0.2])


def test_two_seeds_are_enough_for_an_interval_and_tests() -> None:
    two = np.array([0.1, 0.3])
    low, high = st.t_interval(two)
    half = scipy_stats.t.ppf(0.975, 1) * two.std(ddof=1) / 2**0.5
    assert (low, high) == pytest.approx((0.2 - half, 0.2 + half))
    assert 0 < st.paired_t(two) < 1
    assert 0 < st.tost(two, 0.5) < 1
    with pytest.raises(ValueError, match=r"^expected at least two values, found 1$"):
        st.paired_t(two[:1])
    with pytest.raises(ValueError, match=r"^an effect size needs three differences$"):
        st.hedges_gz(two)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_nothing_depends_on_the_scale(scale: float) -> None:
    assert st.spread(D * scale) == pytest.approx(st.spread(D) * scale)
    assert st.spread(np.full(5, 0.1) * scale + np.array([0, 1, 0, 1, 0]) * 1e-14 * scale) == 0
    assert st.sign_flip(D * scale) == st.sign_flip(D)
    assert st.paired_t(D * scale) == pytest.approx(st.paired_t(D))
    rounded = np.array([0.3, -0.1, -0.2]) * scale  # adds up to 0 but for rounding
    assert st.sign_flip(rounded) == (1.0, True)
    assert st.sign_flip(np.array([0.3, 0.1, 0.2]) * scale)[0] == 0.25


def test_a_bootstrap_is_always_the_same_and_as_wide_as_was_asked() -> None:
    low, high = st.bca_interval(D) or (0.0, 0.0)
    assert st.bca_interval(D) == (low, high)
    narrow = st.bca_interval(D, 0.8) or (0.0, 0.0)
    assert low < narrow[0] < D.mean() < narrow[1] < high
    theirs = scipy_stats.bootstrap(
        (D,), np.mean, n_resamples=9_999, confidence_level=0.95, method="BCa", rng=np.random.default_rng(0)
    )
    assert (low, high) == tuple(theirs.confidence_interval)


def test_a_number_of_seeds_is_whole_and_none_above_ten_thousand() -> None:
    assert type(st.seeds_needed(0.5, 1.0)) is int
    assert st.seeds_needed(1000.0, 1.0) == st.LEAST_SEEDS == 3

    def most(margin: float) -> int | None:
        return st.seeds_needed(margin, 1.0)

    low, high = 0.01, 0.1  # None at the one, a number at the other
    assert most(low) is None
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (low, middle) if most(middle) else (middle, high)
    assert most(high) == st.MOST_SEEDS


NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([NAN, 1.0, 2.0], "expected finite numbers, found nan"),
        ([1.0, -INFINITE], "expected finite numbers, found -inf"),
        ([], "expected differences, found none"),
        ([0.0, 0.0, 0.0], "every difference is zero"),
    ],
)
def test_sign_flips_refuse_what_they_say_nothing_of(values: list[float], expected: str) -> None:
    for one_sided in (False, True):
        with pytest.raises(ValueError, match=expected):
            st.sign_flip(np.array(values), one_sided)


@pytest.mark.parametrize("p", [NAN, -0.1, 1.1])
def test_holm_refuses_what_is_no_p_value(p: float) -> None:
    with pytest.raises(ValueError, match=r"^expected p values from 0 to 1, found "):
        st.holm([0.1, p, 0.2])


@pytest.mark.parametrize("name", ["margin", "deviation", "alpha", "power"])
@pytest.mark.parametrize("value", [0.0, NAN, -1.0, INFINITE])
def test_a_number_of_seeds_needs_numbers_above_zero(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^expected a {name} above 0, found {value}$"):
        st.seeds_needed(**{"margin": 0.1, "deviation": 1.0, name: value})


def test_one_sided_flips_are_scipys() -> None:
    for n, shift in ((4, 0.5), (7, -0.2), (9, 1.0)):
        d = np.random.default_rng(n).normal(shift, 1, n)
        theirs = scipy_stats.permutation_test((d,), np.mean, permutation_type="samples", alternative="greater")
        assert st.sign_flip(d, one_sided=True) == (pytest.approx(theirs.pvalue), True)
        low, high = (st.sign_flip(side, one_sided=True)[0] for side in (0.4 - d, 0.4 + d))
        assert st.tost_flip(d, 0.4) == max(low, high)


@pytest.mark.parametrize("one_sided", [False, True])
def test_flips_reach_a_level_exactly_where_values_all_on_one_side_do(one_sided: bool) -> None:
    for n in range(3, 19):
        least = st.sign_flip(np.ones(n), one_sided)[0] if n <= st.ENUMERATED else 1e-5
        for family in (1, 2, 5, 40):
            assert st.sign_flip_reaches(n, family, one_sided) == (family * least < st.ALPHA)
    assert [st.sign_flip_reaches(n, 1) for n in (5, 6)] == [False, True]
