"""What ends a command, in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from siamese.commands.messages import errors_in_one_line


def test_a_place_that_may_not_be_looked_into_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refused)
    with pytest.raises(SystemExit) as ended, errors_in_one_line():
        Path("secret/new\nline/index.json").is_file()
    assert ended.value.code == 1
    assert capsys.readouterr().err == "error: secret/new\\nline/index.json: cannot be used (Permission denied)\n"


def test_what_no_file_refused_is_no_fault_of_the_user() -> None:
    with pytest.raises(PermissionError), errors_in_one_line():
        raise PermissionError(1, "Operation not permitted")
