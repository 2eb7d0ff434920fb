"""Every option of conf/loss: its class, what it needs, where its formula comes from, and its options.

python scripts/losses.py            a table
python scripts/losses.py supcon     of these alone
python scripts/losses.py --json     the same as JSON
"""

from __future__ import annotations

import json

from siamese.commands.arguments import Parser
from siamese.commands.messages import errors_in_one_line
from siamese.errors import ConfigError, nearest
from siamese.paths import CONF


def main() -> None:
    """The command line."""
    with errors_in_one_line():
        parser = Parser("losses", __doc__ or "")
        parser.add_argument("losses", nargs="*", metavar="LOSS", help="options of conf/loss; all when none is named")
        parser.add_argument("--json", action="store_true", help="print JSON")
        asked = parser.parse_args()
        known = sorted(file.stem for file in (CONF / "loss").glob("*.yaml"))
        for name in asked.losses:
            if name not in known:
                raise ConfigError(f"{name}: no such loss; expected one of {', '.join(known)}{nearest(name, known)}")
        _show(asked.losses or known, as_json=asked.json)


def _show(names: list[str], *, as_json: bool) -> None:
    from siamese.commands import loss_table

    rows, homes = loss_table.describe_all(names), loss_table.homes()
    if as_json:
        print(json.dumps({"losses": rows, "bases": homes}, indent=2))
    else:
        loss_table.show(rows)
