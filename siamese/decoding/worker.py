"""A process that decodes files for another, until there is nothing more to read from its standard input.

It is told in lines of JSON what to do and answers each in one: first how to decode, then again and again some paths and
the row of the first. Pixels it writes itself, into the open file that it was left.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from siamese.decoding.decode import Decoding
from siamese.decoding.formats import formats
from siamese.decoding.rows import decode_into
from siamese.errors import RunError


def main() -> None:
    """Serve the process at the other end of standard input and output."""
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # whatever a plugin prints is no answer

    def answer(content: dict[str, Any]) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    lines = iter(sys.stdin.buffer)
    setting = json.loads(next(lines))
    decoding, root = Decoding(**setting["decoding"]), Path(setting["root"])
    answer({"formats": formats()})
    for line in lines:
        task = json.loads(line)
        try:
            done = decode_into(setting["descriptor"], task["first"], root, task["paths"], decoding)
        except OSError as error:
            answer({"errno": error.errno, "strerror": error.strerror})
        except RunError as error:
            answer({"failed": str(error)})
        else:
            answer({"done": done})


if __name__ == "__main__":
    main()
