"""A written page as a browser would find it, and tables as a reader does, for tests of what is shown."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser

import numpy as np


class Page(HTMLParser):
    """What a browser would find: elements with their attributes, the text, and the data of the figures."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.figures: dict[str, dict] = {}
        self._stack: list[str] = []
        self._figure = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._stack.append(tag)
        kind = dict(attrs)
        self._figure = kind["id"] if kind.get("type") == "application/json" else ""

    def handle_endtag(self, tag):
        while self._stack and self._stack.pop() != tag:
            pass

    def handle_data(self, data):
        if self._figure and self._stack and self._stack[-1] == "script":
            self.figures[self._figure.removesuffix("-data")] = json.loads(data)
        elif not self._stack or self._stack[-1] not in {"script", "style"}:
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))


def values(trace, axis="y"):
    data = trace[axis]
    if isinstance(data, dict):
        return np.frombuffer(base64.b64decode(data["bdata"]), dtype=np.dtype(data["dtype"]))
    return np.array(data)


def texts(table):
    return [[cell.text for cell in row] for row in table.rows]
