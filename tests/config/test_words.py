"""The words of a command line: as people type them, and as they are printed to be typed."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from siamese.config.words import HABITS, home, hydra_quoted, pasteable, quoted, understood
from siamese.errors import ConfigError

HOME = str(Path.home())


def value_of(word: str) -> object:
    """What Hydra takes ``word`` for."""
    return OverridesParser.create().parse_override(word).value()


@pytest.mark.parametrize(
    ("typed", "taken"),
    [
        (["data.root=~/photos"], [f"data.root={HOME}/photos"]),
        (["resume=~"], [f"resume={HOME}"]),
        (["data.root=~/a,~/b", "-m"], ["-m", f"data.root={HOME}/a,{HOME}/b"]),
        (["name=a~b"], ["name=a~b"]),
        (["~optimizer"], ["~optimizer"]),
        (["seed=1", "-m", "lr=2"], ConfigError),
        (["seed=1", "-m", "loss=triplet,supcon"], ["-m", "seed=1", "loss=triplet,supcon"]),
        (["seed=1", "--cfg", "job", "loss=supcon"], ["--cfg", "job", "seed=1", "loss=supcon"]),
        (["loss=supcon", "--config-dir", "x", "seed=2"], ["--config-dir", "x", "loss=supcon", "seed=2"]),
        (["--config-dir=~/x"], [f"--config-dir={HOME}/x"]),
        (["+experiment=quickstart"], ["experiment=quickstart"]),
        (["+loss.margin=1"], ["+loss.margin=1"]),
        (["+hydra.job.x=1"], ["+hydra.job.x=1"]),
    ],
)
def test_words_as_hydra_understands_them(typed: list[str], taken: list[str] | type[Exception]) -> None:
    if isinstance(taken, list):
        assert understood(typed) == taken
        assert understood(taken) == taken  # processes that a run starts are given them again
        return
    with pytest.raises(taken):
        understood(typed)


def test_a_home_folder_with_spaces_stays_one_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/a b")
    (word,) = understood(["data.root=~/my photos"])
    assert value_of(word) == "/home/a b/my photos"


def test_a_user_that_there_is_not_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^data\.root=~nobody-here/x: there is no user 'nobody-here'$"):
        understood(["data.root=~nobody-here/x"])
    assert home("/x", "data.root=/x") == "/x"


@pytest.mark.parametrize("key", HABITS)
def test_what_is_called_otherwise_here_names_the_key(key: str) -> None:
    with pytest.raises(ConfigError) as raised:
        understood([f"{key}=1"])
    assert str(raised.value) == f"{key}: no such key here; expected {HABITS[key]}"


@pytest.mark.parametrize(("word", "key"), [("trainer=gpu", "device=cuda"), ("trainer=ddp", "device=cuda_ddp")])
def test_options_that_are_called_otherwise_here(word: str, key: str) -> None:
    with pytest.raises(ConfigError, match=f"^{word}: no such option; expected {key}$"):
        understood([word])


PATHS = st.text(st.characters(codec="utf-8", exclude_characters="\0\n\r"), min_size=1).filter(lambda text: text.strip())


@given(path=PATHS)
def test_a_printed_command_can_be_pasted(path: str) -> None:
    """A shell and Hydra between them give the path back."""
    name, word = shlex.split(pasteable("siamese-train", ("resume", f"/runs/{path}")))
    assert name == "siamese-train"
    assert value_of(word) == f"/runs/{path}"


@given(path=PATHS)
def test_quotes_keep_a_value_whole(path: str) -> None:
    assert value_of(f"x={quoted(path)}") == path
    assert str(value_of(f"x={hydra_quoted(f'/{path}')}")) == f"/{path}"


def test_plain_paths_are_printed_plainly() -> None:
    assert pasteable("python", "train.py", ("resume", "outputs/2026-01-01_run")) == (
        "python train.py resume=outputs/2026-01-01_run"
    )
    assert pasteable(("resume", "o=1 x")) == "\"resume='o=1 x'\""
