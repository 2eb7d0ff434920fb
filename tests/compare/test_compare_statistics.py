"""Every number of the statistics against an independent implementation, a published table or brute force."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy import integrate, optimize
from scipy import stats as scipy_stats

from siamese.compare import statistics as st
from siamese.compare.statistics import Verdict

# Student's own example (1908, p. 20): extra hours of sleep of ten patients under two drugs.
SLEEP = np.array([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4])
# Darwin's maize, the fifteen differences in eighths of an inch that Fisher (1935, § 21) flips the signs of.
MAIZE = np.array([49.0, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48])
FOLDS = np.array([0.9135, 0.9210, 0.9165, 0.9239, 0.9215]), np.array([0.9149, 0.9136, 0.9235, 0.9251, 0.9111])

lists = some.lists(some.floats(-1, 1).map(lambda v: round(v, 3)), min_size=3, max_size=9).map(np.array)
varied = lists.filter(lambda d: np.ptp(d) > 0.01)


def student_cdf(x: float, f: int) -> float:
    """Student's t by numerical integration of its density."""
    constant = math.gamma((f + 1) / 2) / (math.sqrt(f * math.pi) * math.gamma(f / 2))
    return 0.5 + integrate.quad(lambda u: constant * (1 + u * u / f) ** (-(f + 1) / 2), 0, x)[0]


def test_students_example():
    assert st.paired_t(SLEEP) == pytest.approx(0.00283, abs=5e-6)  # t = 4.0621 with 9 degrees of freedom
    low, high = st.t_interval(SLEEP)
    assert (low, high) == pytest.approx((0.7001142, 2.4598858), abs=1e-6)


@given(varied)
@settings(max_examples=25, deadline=None)
def test_t_against_integration_of_its_density(d):
    n = len(d)
    error = math.sqrt(sum((x - sum(d) / n) ** 2 for x in d) / (n - 1) / n)
    t = sum(d) / n / error
    assert st.paired_t(d) == pytest.approx(2 * (1 - student_cdf(abs(t), n - 1)), abs=1e-9)
    critical = optimize.brentq(lambda x: student_cdf(x, n - 1) - 0.975, 0, 100)
    assert st.t_interval(d) == pytest.approx((d.mean() - critical * error, d.mean() + critical * error))


def test_fishers_sign_flips_of_darwins_maize():
    p, exact = st.sign_flip(MAIZE)
    assert exact
    assert p == 1726 / 32768  # Fisher 1935, § 21: 863 of 32,768 in one tail
    assert st.paired_t(MAIZE) == pytest.approx(0.0497, abs=5e-5)  # and t = 2.148, just under 5 %


@given(lists.filter(np.any))
@settings(max_examples=40, deadline=None)
def test_sign_flips_against_enumeration(d):
    sums = [
        abs(math.fsum(s * x for s, x in zip(signs, d, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(d))
    ]
    expected = sum(s >= abs(math.fsum(d)) - 1e-12 for s in sums) / 2 ** len(d)
    assert st.sign_flip(d) == (expected, True)


def test_many_seeds_are_flipped_at_random_and_always_alike():
    d = np.random.default_rng(1).normal(0.3, 1, 20)
    p, exact = st.sign_flip(d)
    assert not exact
    assert p == st.sign_flip(d)[0]
    # Every second half of the signs convolved over a fine grid: the exact distribution of the sum.
    grid = np.rint(d * 1e4).astype(int)
    counts = np.array([1.0])
    for step in np.abs(grid):
        wider = np.zeros(len(counts) + 2 * step)
        wider[: len(counts)] += counts
        wider[2 * step :] += counts
        counts = wider
    sums = np.arange(len(counts)) - np.abs(grid).sum()
    exactly = counts[np.abs(sums) >= abs(grid.sum())].sum() / counts.sum()
    assert p == pytest.approx(exactly, abs=4 * math.sqrt(exactly * (1 - exactly) / st.DRAWN) + 1e-4)
    assert st.sign_flip(np.full(20, 1.0))[0] == pytest.approx(1e-5)  # never zero


@given(lists.filter(lambda d: len({abs(x) for x in d}) == len(d) and np.all(d)))
@settings(max_examples=25, deadline=None)
def test_wilcoxon_against_enumeration(d):
    ranks = [sum(abs(o) <= abs(x) for o in d) for x in d]
    found = sum(r for r, x in zip(ranks, d, strict=True) if x > 0)
    total, n = sum(ranks), len(d)
    extreme = max(found, total - found)
    all_sums = [sum(itertools.compress(ranks, keep)) for keep in itertools.product((0, 1), repeat=n)]
    expected = min(1.0, 2 * sum(s >= extreme for s in all_sums) / 2**n)
    assert st.wilcoxon(d) == pytest.approx(expected)


def test_wilcoxon_of_nothing_but_zeros():
    assert st.wilcoxon(np.zeros(6)) is None


def test_bca_against_efrons_formula():
    d = np.random.default_rng(3).gamma(1.0, 1.0, 14)
    draws = np.random.default_rng(4).choice(d, (40_000, len(d))).mean(1)
    normal = scipy_stats.norm
    bias = normal.ppf(np.mean(draws < d.mean()) + np.mean(draws == d.mean()) / 2)
    jackknife = np.array([np.delete(d, i).mean() for i in range(len(d))])
    away = jackknife.mean() - jackknife
    acceleration = (away**3).sum() / (6 * (away**2).sum() ** 1.5)
    ends = [
        float(np.quantile(draws, normal.cdf(bias + (bias + z) / (1 - acceleration * (bias + z)))))
        for z in normal.ppf([0.025, 0.975])
    ]
    assert st.bca_interval(d) == pytest.approx(tuple(ends), abs=0.02)
    low, high = ends
    assert high - d.mean() > d.mean() - low + 0.02  # skewed as the data are, which a t interval cannot be


def test_bca_needs_ten_seeds_that_vary():
    assert st.bca_interval(np.arange(9.0)) is None
    assert st.bca_interval(np.full(12, 0.1)) is None
    assert st.bca_interval(np.arange(10.0)) is not None


def test_holm_by_hand():
    assert st.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # R's p.adjust
    assert st.holm([0.6, 0.9]) == [1.0, 1.0]
    assert st.holm([]) == []


@given(some.lists(some.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_as_the_step_down_procedure_does(p_values):
    rejected: set[int] = set()
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    for step, i in enumerate(order):
        if p_values[i] * (len(p_values) - step) >= 0.05:
            break
        rejected.add(i)
    assert {i for i, p in enumerate(st.holm(p_values)) if p < 0.05} == rejected


@given(varied, some.floats(0.01, 2))
@settings(max_examples=60, deadline=None)
def test_equivalent_exactly_where_the_90_percent_interval_is_within_the_margin(d, margin):
    low, high = st.t_interval(d, 0.9)
    assert (st.tost(d, margin) < 0.05) == (-margin < low and high < margin)


@given(varied)
@settings(max_examples=20, deadline=None)
def test_tost_is_the_larger_of_two_one_sided_tests(d):
    up = scipy_stats.ttest_1samp(d, -0.3, alternative="greater").pvalue
    down = scipy_stats.ttest_1samp(d, 0.3, alternative="less").pvalue
    assert st.tost(d, 0.3) == pytest.approx(max(up, down))


def test_hedges_correction_at_published_values():
    for n, correction in (
        (3, 0.5642),
        (5, 0.7979),
        (10, 0.9139),
        (20, 0.9599),
    ):  # J(2), J(4), J(9), J(19): Hedges 1981, table 1
        d = np.random.default_rng(n).normal(1, 1, n)
        assert st.hedges_gz(d) / (d.mean() / d.std(ddof=1)) == pytest.approx(correction, abs=2e-3)


def test_power_against_simulation_and_cohens_table():
    assert st.seeds_needed(0.5, 1.0) >= 34  # Cohen 1988: d_z = 0.5 needs 34 pairs for 80 % power at two-sided 5 %
    least = next(n for n in range(2, 99) if st.power_to_detect(n, 0.5, 1.0) >= 0.8)
    assert least == 34
    random = np.random.default_rng(0)
    for n, margin in ((5, 1.5), (12, 0.9)):
        away, still = (random.normal(m, 1.0, (20_000, n)) for m in (margin, 0.0))
        error = away.std(1, ddof=1) / math.sqrt(n)
        detected = np.abs(away.mean(1)) > scipy_stats.t.ppf(0.975, n - 1) * error
        assert st.power_to_detect(n, margin, 1.0) == pytest.approx(detected.mean(), abs=0.012)
        half = scipy_stats.t.ppf(0.95, n - 1) * still.std(1, ddof=1) / math.sqrt(n)
        equated = np.abs(still.mean(1)) + half < margin
        assert st.power_to_equate(n, margin, 1.0) == pytest.approx(equated.mean(), abs=0.012)


@given(some.floats(0.001, 1), some.floats(0.001, 1), some.sampled_from([0.05, 0.05 / 6, 0.05 / 40]))
@settings(max_examples=60, deadline=None)
def test_seeds_needed_is_the_first_number_that_suffices(margin, deviation, alpha):
    needed = st.seeds_needed(margin, deviation, alpha)
    if needed is None:
        quantiles = scipy_stats.norm.ppf(1 - alpha / 2) + scipy_stats.norm.ppf(0.8)
        assert (quantiles * deviation / margin) ** 2 > 9_000  # of 10,000, of what detecting takes
        return

    def enough(n):
        powers = st.power_to_detect(n, margin, deviation, alpha), st.power_to_equate(n, margin, deviation, alpha)
        return min(powers) >= 0.8

    assert enough(needed)
    assert needed == 3 or not enough(needed - 1)
    assert all(enough(n) for n in (needed + 1, 2 * needed, 30 * needed))  # and stays so, however far out in the tail


def test_power_far_out_in_the_tail_is_a_number():
    for n in (2, 5, 100, 600, 3000, 10_000):
        for ratio in (1e-3, 0.1, 1, 10, 1e4):
            assert 0 <= st.power_to_detect(n, ratio, 1.0, 0.05 / 18) <= 1
            assert 0 <= st.power_to_equate(n, ratio, 1.0, 0.05 / 18) <= 1


def test_rounding_noise_is_no_spread():
    d = np.array([0.91 - 0.90, 0.92 - 0.91, 0.93 - 0.92])
    assert st.spread(d) == 0
    for tested in (st.paired_t, st.hedges_gz, lambda d: st.tost(d, 0.005)):
        with pytest.raises(ValueError, match="do not vary"):
            tested(d)
    with pytest.raises(ValueError, match="at least two"):
        st.t_interval(np.array([1.0]))


@pytest.mark.parametrize(
    ("p_different", "p_equivalent", "expected"),
    [
        (0.04, 0.2, Verdict.DIFFERENT),
        (0.04, None, Verdict.DIFFERENT),
        (0.04, 0.01, Verdict.NEGLIGIBLE),
        (0.9, 0.04, Verdict.EQUIVALENT),
        (0.9, 0.2, Verdict.INCONCLUSIVE),
        (0.9999, None, Verdict.INCONCLUSIVE),  # a large p alone is no evidence of equality
        (0.05, 0.05, Verdict.INCONCLUSIVE),
    ],
)
def test_verdicts(p_different, p_equivalent, expected):
    assert st.verdict(p_different, p_equivalent) == expected


def test_the_articles_folds():
    d = FOLDS[1] - FOLDS[0]
    assert d.mean() == pytest.approx(-0.00164)
    low, high = st.t_interval(d)
    assert (high - low) / 2 == pytest.approx(0.0088, abs=5e-5)
    assert st.paired_t(d) == pytest.approx(0.633, abs=5e-4)
    assert st.tost(d, 0.010) < 0.05 < st.tost(d, 0.005)
