"""Which jobs a command line makes of itself, and where they live."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from support.processes import ROOT

from siamese.config.schema import is_scientific
from siamese.config.validate import flatten, validate
from siamese.config.words import quoted
from siamese.errors import ConfigError
from siamese.sweep import sweep as sweeping
from siamese.sweep.plan import Plan, digest, plan
from siamese.training.check import job_config


@pytest.fixture(scope="module", autouse=True)
def _conf() -> Iterator[None]:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield


def planned(*words: str, params: Mapping[str, Any] | None = None) -> Plan:
    """The plan of ``python train.py -m WORDS``, as Hydra's own composition of the command has it."""
    loader = GlobalHydra.instance().config_loader()
    master = loader.load_configuration("train", list(words), RunMode.MULTIRUN)
    HydraConfig.instance().set_config(master)
    given = master.hydra.sweeper.params if params is None else params
    return plan(list(master.hydra.overrides.task), given, master, loader)


def folders(*words: str) -> set[str]:
    return {job.folder for job in planned(*words).jobs}


def hashes(*words: str) -> list[str]:
    return [job.folder.rpartition("-")[2] for job in planned(*words).jobs]


def test_a_grid_has_a_job_for_every_combination() -> None:
    jobs = planned("data.batch_size=16,32", "seed=range(3)", "trainer.max_epochs=2").jobs
    assert [job.varied for job in jobs] == [{"batch_size": b, "seed": s} for b in ("16", "32") for s in "012"]
    assert {(job.composed["data"]["batch_size"], job.composed["seed"]) for job in jobs} == {
        (b, s) for b in (16, 32) for s in range(3)
    }
    assert all(job.composed["trainer"]["max_epochs"] == 2 for job in jobs)
    assert jobs[0].folder.startswith("batch_size-16_seed-0-")


def test_points_are_pairs_and_not_a_grid() -> None:
    points = "sweep.points=[['data.batch_size=16','trainer.accumulate_grad_batches=4'],['data.batch_size=64']]"
    jobs = planned(points, "seed=0,1").jobs
    found = [(j.composed["data"]["batch_size"], j.composed["trainer"]["accumulate_grad_batches"]) for j in jobs]
    assert found == [(16, 4), (16, 4), (64, 1), (64, 1)]
    assert [job.composed["seed"] for job in jobs] == [0, 1, 0, 1]


def test_the_command_line_comes_before_what_a_preset_says() -> None:
    jobs = planned("seed=7", params={"seed": "0,1", "loss.margin": "0.2,0.4"}).jobs
    assert [(job.composed["seed"], job.composed["loss"]["margin"]) for job in jobs] == [(7, 0.2), (7, 0.4)]


def test_a_folder_is_named_by_the_science() -> None:
    words = ["data=digits", "model=conv_small", "seed=0,1"]
    own = hashes(*words)
    assert len(set(own)) == 2
    assert hashes(*reversed(words)) == own
    for same in (
        "callbacks.progress_bar=false",
        "data.root=/elsewhere",
        "sweep.name=other",
        "device.channels_last=false",
    ):
        assert hashes(*words, same) == own, same
    assert hashes(*words, "loss.koleo_weight=0") == own == hashes(*words, "loss.koleo_weight=0.0")
    assert hashes(*words[:2], "seed=1,0") == own[::-1]
    assert len({*own, *hashes(*words[:2], "seed=0", "data.root=/here,/there")}) == 4  # unless it is what varies
    for other in ("optimizer.lr=0.1", "trainer.max_epochs=3", "loss=triplet_koleo", "data.augment.flip=true"):
        assert not set(hashes(*words, other)) & set(own), other


def test_a_folder_can_be_typed_after_resume() -> None:
    words = ["loss=triplet,triplet_batch_all", "optimizer.betas=[0.9,0.999],[0.8,0.99]", "data.root='/a b/c','/d=e,f'"]
    found = folders(*words)
    assert len(found) == 8
    for folder in found:
        override = OverridesParser.create().parse_override(f"resume=outputs/sweeps/{folder}")
        assert override.value() == f"outputs/sweeps/{folder}"
        assert len(folder) < 130


@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00\n\r"), min_size=1))
def test_any_path_reaches_hydra_as_it_is(path: str) -> None:
    assert OverridesParser.create().parse_override(f"hydra.run.dir={quoted(path)}").value() == path  # type: ignore[arg-type]


def test_the_name_of_a_sweep_is_that_of_what_it_varies_and_of_what_it_does_not() -> None:
    words = ["data=digits", "seed=0,1"]
    assert planned(*words).name == planned("seed=0,1,2,3", "data=digits").name
    assert planned(*words).name.startswith("seed-")
    assert planned(*words, "optimizer.lr=0.1").name != planned(*words).name
    assert planned("seed=1", "trainer.max_epochs=2").name.startswith("seed_max_epochs-")
    assert planned("data.root=elsewhere").name.startswith("single-")


CHOICES = st.fixed_dictionaries(
    {},
    optional={
        "loss": st.sampled_from(["triplet", "triplet_koleo"]),
        "scheduler": st.sampled_from(["constant", "one_cycle", "step"]),
        "model": st.sampled_from(["conv_small", "vgg11"]),
        "optimizer.lr": st.floats(1e-5, 1.0),
        "loss.margin": st.floats(0.1, 1.0),
        "data.mean": st.sampled_from(["null", "[0.1,0.2,0.3]"]),
        "seed": st.integers(0, 9),
        "+data.augment.colour": st.just("true"),
    },
)


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CHOICES)
def test_a_job_is_composed_as_hydra_would(chosen: dict[str, Any]) -> None:
    words = [f"{key}={value}" for key, value in chosen.items()]
    loader = GlobalHydra.instance().config_loader()
    for job in planned(*words, "trainer.max_epochs=3,4").jobs:
        whole = loader.load_configuration("train", list(job.words), RunMode.RUN)
        HydraConfig.instance().set_config(whole)
        expected = OmegaConf.to_container(job_config(whole))
        assert job.composed == expected
        assert job.science == {k: v for k, v in flatten(expected).items() if is_scientific(k)}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("seed=0,1,0", "seed=0: is there twice"),
        ("sweep.points=[['seed=1'],['seed=2'],['seed=1']]", "seed=1: is there twice"),
        ("loss=triplet,triplet_koleo loss.koleo_weight=0.1", "loss=triplet_koleo: computes what loss=triplet does"),
        ("seed=3 sweep.points=[['seed=1']]", "seed=3: the points of sweep.points set seed too"),
        ("sweep.points=3", "sweep.points=3: expected lists of overrides"),
        ("sweep.points=[seed:1]", "sweep.points: expected lists of overrides"),
        ("sweep.points=[[]]", "sweep.points: expected lists of overrides"),
        ("sweep.points=[['seed=1,2']]", "seed=1,2: a point has one value for each key"),
        ("seed=interval(0,1)", "expected values, as in a,b,c"),
    ],
)
def test_a_plan_that_is_refused(words: str, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        planned(*words.split())
    assert says in str(refused.value)


PRESETS = sorted(file.stem for file in (ROOT / "conf" / "sweep").glob("*.yaml"))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_of_jobs_that_can_run_paired_by_seed(preset: str) -> None:
    jobs = planned(f"sweep={preset}").jobs
    seeds: dict[str, set[int]] = defaultdict(set)
    for job in jobs:
        arm = digest({k: v for k, v in job.science.items() if k != "seed"})
        if arm not in seeds:
            assert validate(dict(job.composed)).sweep.name == preset
        seeds[arm].add(job.composed["seed"])
    assert len(seeds) > 1
    assert len({frozenset(used) for used in seeds.values()}) == 1
    assert len(next(iter(seeds.values()))) >= 3


def test_the_effective_batch_of_the_preset_is_constant() -> None:
    jobs = planned("sweep=batch_vs_accumulation").jobs
    assert {j.composed["data"]["batch_size"] * j.composed["trainer"]["accumulate_grad_batches"] for j in jobs} == {128}
    assert {j.composed["loss"]["koleo_weight"] for j in jobs} == {0.0, 0.1}
    assert len({j.composed["data"]["batch_size"] for j in jobs}) == 4


@pytest.mark.parametrize(
    ("launcher", "jobs", "cores", "threads"),
    [
        ({"_target_": "x.BasicLauncher"}, 12, 8, 8),
        ({"_target_": "x.JoblibLauncher", "n_jobs": -1}, 12, 8, 1),
        ({"_target_": "x.JoblibLauncher", "n_jobs": 2}, 12, 8, 4),
        ({"_target_": "x.JoblibLauncher", "n_jobs": 3}, 2, 8, 4),
        ({"_target_": "x.LocalLauncher"}, 4, 8, 2),
        ({"_target_": "x.SlurmLauncher", "cpus_per_task": 6}, 4, 8, 6),
        ({"_target_": "x.SlurmLauncher", "cpus_per_task": None}, 4, 8, None),
        ({"_target_": "x.RayLauncher", "remote": {"num_cpus": 2}}, 4, 8, 2),
    ],
)
def test_jobs_at_once_times_threads_are_the_cores(
    launcher: dict[str, Any], jobs: int, cores: int, threads: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(cores), raising=False)
    assert sweeping._threads(OmegaConf.create(launcher), jobs) == threads


def test_more_jobs_than_cores_is_warned_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(2), raising=False)
    assert sweeping._threads(OmegaConf.create({"_target_": "x.JoblibLauncher", "n_jobs": 5}), 9) == 1
    assert capsys.readouterr().err == "warning: 5 jobs at once on 2 cores; each has 1 thread\n"
