"""Links among the documents lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def headings(document: Path) -> set[str]:
    """Of a document, as its links name them: in lower case, hyphens for spaces, no other punctuation."""
    titles = re.findall(r"^#+ (.+)$", document.read_text("utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_to_a_file_and_a_heading_of_it(document):
    links = re.findall(r"\]\(([^)\s]+)\)", document.read_text("utf-8"))
    for name, _, heading in (link.partition("#") for link in links if "://" not in link):
        target = document.parent / name if name else document
        assert target.exists(), name
        assert not heading or heading in headings(target), f"{name}#{heading}"
