"""A page in a real browser: Debian's chromium, headless, driven by Playwright."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any


class Visit:
    """A page opened from its file, offline, or from an address, and everything it asked for or complained about."""

    def __init__(
        self, browser: Any, where: Path | str, width: int = 1280, scheme: str = "light", **context: Any
    ) -> None:
        viewport, offline = {"width": width, "height": 900}, isinstance(where, Path)
        self.context = browser.new_context(viewport=viewport, color_scheme=scheme, offline=offline, **context)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.goto(where.as_uri() if isinstance(where, Path) else where)

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def column(self, table: str, name: str) -> list[str]:
        """The texts of a table's column, in the order shown."""
        script = """([table, name]) => {
            const heads = [...document.querySelectorAll(`#${table} thead th`)];
            const column = heads.findIndex(head => head.textContent.trim() === name);
            return [...document.querySelectorAll(`#${table} tbody tr`)].filter(row => !row.hidden)
                .map(row => row.cells[column].textContent.trim());
        }"""
        return self.page.evaluate(script, [table, name])

    def sort(self, table: str, name: str) -> list[str]:
        heading = re.compile(f"^{re.escape(name)}$")
        self.page.locator(f"#{table} thead button").filter(has_text=heading).click()
        return self.column(table, name)

    def shown(self, selector: str) -> int:
        return sum(element.is_visible() for element in self.page.query_selector_all(selector))
