"""What the documentation says can be followed: links, commands, keys and samples."""

from __future__ import annotations

import itertools
import json
import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from docs.pages import PAGES, ROOT, Command, blocks, commands, github_anchor, headings, links, rows, site_anchor
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from support.processes import Cli
from torch import nn

import siamese.commands.train  # noqa: F401 (registers what conf/train.yaml reads)
from siamese.config.targets import check_targets, make
from siamese.config.trust import with_typed_targets
from siamese.config.validate import flatten, validate
from siamese.config.words import understood
from siamese.training.check import job_config

DOCS = ROOT / "docs"
COMMANDS = [command for page in PAGES for command in commands(page)]
SCRIPTS = (
    "evaluate",
    "index",
    "search",
    "embed",
    "export",
    "explore",
    "compare",
    "tune",
    "losses",
    "lr_find",
    "study",
    "models",
    "accumulation",
    "benchmark",
)
FLAGS = {"--cfg": 1, "--config-dir": 1, "--help": 0, "-m": 0}  # of train.py, and how many words follow
EXAMPLE = "conf"  # the folder of options of docs/extending.md


def composed(words: Sequence[str]) -> DictConfig:
    config = compose("train", list(words), return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    return config


_checked: set[tuple[str, ...]] = set()


def check(words: Sequence[str]) -> None:
    """Compose ``words`` as train.py does, and check all that can be checked without data."""
    if tuple(words) in _checked:
        return
    words = understood(words)
    config = composed(words)
    check_targets(validate(with_typed_targets(job_config(config), words)))
    if any(word.startswith("sweep.points=") for word in words):
        for point in config.sweep.points:
            check([*words, "sweep.points=[]", *point])
    _checked.add(tuple(words))


def tail(command: Command, name: str) -> list[str] | None:
    """The words after ``python train.py``, ``python scripts/NAME.py`` or their console command; None of others."""
    words = command.words
    if words[:2] in (["python", f"{name}.py"], ["python", f"scripts/{name}.py"]):
        return words[2:]
    return words[1:] if words[:1] == [f"siamese-{name}"] else None


def shown_after(command: Command) -> str:
    """What a console block shows after ``command``, up to the next one."""
    lines = command.page.read_text().splitlines()[command.line - 1 + len(command.lines) :]
    return "\n".join(itertools.takewhile(lambda line: not line.startswith(("$ ", "```")), lines))


TRAIN = [command for command in COMMANDS if tail(command, "train") is not None]
REFUSED = [command for command in TRAIN if shown_after(command).startswith("error: ")]
OTHER = [(command, name) for command in COMMANDS for name in SCRIPTS if tail(command, name) is not None]


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that docs/extending.md builds, out of its samples."""
    folder = tmp_path_factory.mktemp("mine")
    lines = (DOCS / "extending.md").read_text().splitlines()
    code = []
    for block in blocks(DOCS / "extending.md"):
        text = "\n".join(block.lines) + "\n"
        if block.language == "python":
            code.append(text)
        elif block.language == "yaml":
            named = re.search(r"In `([\w/]+\.yaml)`", lines[block.line - 4])
            assert named, f"docs/extending.md:{block.line}: says not which file this is"
            (folder / named[1]).parent.mkdir(parents=True, exist_ok=True)
            (folder / named[1]).write_text(text)
    (folder / "mymod.py").write_text("\n\n".join(code))
    return folder


@pytest.fixture(scope="module")
def _conf(mine: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        patch.syspath_prepend(str(mine))
        yield
        patch.delitem(sys.modules, "mymod", raising=False)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = page if not path else (page.parent / path).resolve()
        assert target.exists(), f"{link}: no such file"
        assert page.parent != DOCS or target.is_relative_to(DOCS), f"{link}: is not on the site"
        if anchor:
            assert anchor in map(github_anchor, headings(target)), f"{link}: no such heading"
            assert anchor in map(site_anchor, headings(target)), f"{link}: has another name on the site"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_yaml_and_json_can_be_read(page: Path) -> None:
    for block in blocks(page):
        text = "\n".join(block.lines)
        if block.language == "json":
            json.loads(text)
        elif block.language == "yaml":
            assert isinstance(yaml.safe_load(text), dict)


def test_no_command_is_wider_than_80_columns() -> None:
    assert [str(c) for c in COMMANDS if any(len(line) > 80 for line in c.lines)] == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_each_part_of_the_package_is_said() -> None:
    """In the table of concepts, and each folder in the layout of the readme."""
    parts = [path for path in (ROOT / "siamese").iterdir() if path.name[:2] != "__"]
    table = [line.split("|")[1] for line in (ROOT / "docs" / "concepts.md").read_text().splitlines() if line[:1] == "|"]
    folders = {path.name for path in parts if path.is_dir()}
    said = {name for cell in table for name in re.findall(r"`(\w+(?:[.]py|/))`", cell)}
    assert {f"{path.name}{'/' * path.is_dir()}" for path in parts} <= said
    layout = (ROOT / "README.md").read_text().split("## Layout")[1].split("scripts/")[0]
    assert folders - {"commands"} <= set(re.findall(r"\w+", layout))


def test_the_site_has_every_page() -> None:
    def pages(nav: Any) -> Iterator[str]:
        for entry in nav if isinstance(nav, list) else nav.values():
            if isinstance(entry, str):
                yield entry
            else:
                yield from pages(entry)

    nav = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]
    assert sorted(pages(nav)) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


@pytest.mark.usefixtures("_conf")
@pytest.mark.parametrize("command", [command for command in TRAIN if command not in REFUSED], ids=str)
def test_commands_of_train_compose_and_validate(command: Command, mine: Path) -> None:
    words = tail(command, "train") or []
    overrides: list[str] = []
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            overrides.append(word)
            continue
        assert word in FLAGS, f"{word}: no such flag"
        if word == "--config-dir":
            assert words[0] == EXAMPLE
            overrides.append(f"hydra.searchpath=[file://{mine}/conf]")
        del words[: FLAGS[word]]
    if any(word.startswith("resume=") for word in overrides):
        pytest.skip("there is no run to go on with")
    if "-m" not in command.words:
        check(overrides)
        return
    parsed = OverridesParser.create().parse_overrides(understood(overrides))
    swept = {o.get_key_element(): list(o.sweep_string_iterator()) for o in parsed if o.is_sweep_override()}
    plain = [str(o.input_line) for o in parsed if not o.is_sweep_override()]
    for number in range(max(map(len, swept.values()), default=1)):  # every value once, not every combination
        check([*plain, *(f"{key}={values[number % len(values)]}" for key, values in swept.items())])


@pytest.mark.parametrize("command", REFUSED, ids=str)
def test_what_is_refused_is_refused_in_these_words(command: Command, cli: Cli) -> None:
    done = cli("train.py", *(tail(command, "train") or []), check=False)
    assert done.returncode == 2
    assert done.stderr.strip() == shown_after(command)


@pytest.mark.usefixtures("_conf")
@pytest.mark.parametrize(("command", "name"), OTHER, ids=[str(command) for command, _ in OTHER])
def test_commands_of_scripts_name_flags_and_keys_that_exist(command: Command, name: str, cli: Cli) -> None:
    words = tail(command, name) or []
    flags = [word for word in words if word.startswith("-")]
    if flags:
        known = set(re.findall(r"(?<!\w)--?[a-z][\w-]*", _help(cli, name)))
        assert set(flags) <= known
    first = flags and words.index(flags[0])
    plain = words[:first] if flags else words
    if name == "tune":
        study = ROOT / plain.pop(0)
        keys = yaml.safe_load(study.read_text())
        plain = [word for word in plain if word.partition("=")[0].partition(".")[0] not in keys]
    if name in ("tune", "accumulation", "lr_find"):
        check(plain)
    if name == "losses":
        assert all((ROOT / "conf" / "loss" / f"{word}.yaml").exists() for word in plain)
    if name == "models":
        names = [word for word in plain if "=" not in word]
        for option in names or ["vgg11"]:
            check([f"model={option}", *(word for word in plain if "=" in word)])


_helps: dict[str, str] = {}


def _help(cli: Cli, name: str) -> str:
    if name not in _helps:
        _helps[name] = cli(f"scripts/{name}.py", "--help").stdout
    return _helps[name]


def test_extras_that_are_installed_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = [
        extra
        for page in PAGES
        for found in re.findall(r"'\.\[([\w,]+)\]'", page.read_text())
        for extra in found.split(",")
    ]
    assert named
    assert set(named) <= set(extras)


@pytest.mark.usefixtures("_conf")
def test_defaults_in_tables_are_those_of_a_plain_run() -> None:
    defaults = flatten(OmegaConf.to_container(job_config(composed([]))))
    known = set()
    for row in itertools.chain(rows(DOCS / "configuration.md"), rows(DOCS / "sweeps.md"), rows(DOCS / "studies.md")):
        if len(row) != 3 or not all(re.fullmatch(r"`[^`]+`", cell) for cell in row[:2]):
            continue
        key, default = (cell.strip("`") for cell in row[:2])
        if key.startswith("hydra.") or ("." not in key and key not in defaults):  # Hydra's, or a group
            continue
        known.add(key)
        assert defaults[key] == yaml.safe_load(default), key
    groups = (
        "data",
        "batches",
        "trainer",
        "accumulation",
        "callbacks",
        "evaluation",
        "figures",
        "device",
        "sweep",
        "study",
    )
    ours = {key for key in defaults if key.partition(".")[0] in groups}
    assert ours - known == set(), "not in a table"


@pytest.mark.parametrize(
    ("group", "page"),
    [
        ("experiment", "configuration.md"),
        ("data", "configuration.md"),
        ("device", "configuration.md"),
        ("optimizer", "configuration.md"),
        ("scheduler", "configuration.md"),
        ("debug", "configuration.md"),
        ("batches", "batches.md"),
        ("model", "models.md"),
        ("accumulation", "accumulation.md"),
        ("sweep", "sweeps.md"),
        ("study", "studies.md"),
        ("logger", "loggers.md"),
    ],
)
def test_every_option_is_on_its_page(group: str, page: str) -> None:
    text = (DOCS / page).read_text()
    for option in (ROOT / "conf" / group).glob("*.yaml"):
        assert re.search(rf"`([\w/]+=)?{option.stem}`|\b{group}={option.stem}\b", text), f"{group}={option.stem}"


def test_each_of_our_losses_is_on_its_page() -> None:
    text = (DOCS / "losses.md").read_text()
    for option in (ROOT / "conf" / "loss").glob("*.yaml"):
        content = yaml.safe_load(option.read_text())
        if (
            str(content.get("_target_", "siamese.")).startswith("siamese.losses")
            and "library" not in content["_target_"]
        ):
            assert f"`{option.stem}`" in text, option.stem


@pytest.mark.usefixtures("_conf")
def test_the_samples_of_extending_train() -> None:
    import mymod  # type: ignore[import-not-found]

    node = OmegaConf.to_container(OmegaConf.load(Path(mymod.__file__).parent / "conf" / "model" / "tiny.yaml"))
    assert isinstance(node, dict)
    net = make("model", {str(k): v for k, v in node.items()})
    images = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    embeddings = net(images)
    assert embeddings.shape == (6, 64)
    triplets = torch.arange(6).view(3, 2)
    loss = mymod.CosineHinge()(embeddings, torch.tensor([0, 1, 0, 1, 1, 0]), tuple(triplets))
    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in net.parameters())
    cosine = nn.functional.cosine_similarity
    a, p, n = (embeddings[index] for index in triplets)
    expected = (0.8 - cosine(a, p)).relu() + (cosine(a, n) - 0.2).relu()
    assert torch.allclose(loss, expected.mean())
