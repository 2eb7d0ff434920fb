"""Every option of conf/model: its parameters, its work for an image, and what it makes of it.

python scripts/models.py                                    a table
python scripts/models.py resnet18 resnet50                  of these alone
python scripts/models.py resnet18 data.image_size=224       one, stage by stage, for larger images
python scripts/models.py timm model.name=vit_small_patch16_224 data.image_size=224

takes train.py's words too. Nothing is downloaded. A multiplication and an addition count as two operations; those of
convolutions, linear layers and attention are counted.
"""

from __future__ import annotations

from collections.abc import Sequence

from siamese.commands.arguments import Parser
from siamese.commands.messages import errors_in_one_line
from siamese.config.words import understood
from siamese.errors import ConfigError, nearest, several
from siamese.paths import CONF, with_own_modules


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = Parser("models", __doc__ or "")
    parser.add_argument(
        "words",
        nargs="*",
        metavar="MODEL|KEY=VALUE",
        help="options of conf/model, all when none is named; words as after train.py",
    )
    with errors_in_one_line():
        with_own_modules()
        said = parser.parse_args(arguments).words
        names = [word.removeprefix("model=") for word in said if "=" not in word or word.startswith("model=")]
        words = understood([word for word in said if "=" in word and not word.startswith("model=")])
        options = {file.stem: file.read_text() for file in sorted((CONF / "model").glob("*.yaml"))}
        for name in names:
            if name not in options:
                hint = nearest(name, options) or f"; expected {several(options)}"
                raise ConfigError(f"{name}: no such option of conf/model{hint}")

        from siamese.commands import model_table

        complete = [name for name, text in options.items() if "???" not in text]  # the others want a name of a network
        model_table.show(names or complete, words)
