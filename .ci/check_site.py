"""Check a built site: every link inside leads somewhere, and browsers load nothing from elsewhere.

python .ci/check_site.py docs/_build/html
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

# Attributes of elements whose target a browser loads by itself.
LOADED = {(tag, "src") for tag in ("script", "img", "source", "iframe", "video", "audio", "embed")}
LOADED |= {("link", "href"), ("img", "srcset"), ("source", "srcset"), ("object", "data")}


class Page(HTMLParser):
    """Ids of a page, what it links to, and what it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect the attributes of one element."""
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.ids.add(value)
            elif (tag, name) == ("a", "href") and value:
                self.links.append(value)
            elif (tag, name) in LOADED and value:
                self.loads += [part.split()[0] for part in value.split(", ")] if name == "srcset" else [value]
            elif name == "style" and value:
                self.loads += loads_of_css(value)


def loads_of_css(text: str) -> list[str]:
    """Addresses that a style sheet loads."""
    return re.findall(r"url\(\s*['\"]?([^'\")]+)", text) + re.findall(r"@import\s+['\"]([^'\"]+)", text)


def problems(site: Path) -> list[str]:
    """Whatever is wrong, a line each."""
    pages = {path: Page(path) for path in sorted(site.rglob("*.html")) if "_static" not in path.parts}
    wrong, n_links = [], 0
    for path, page in pages.items():
        for address in page.loads + page.links:
            parts = urlsplit(address)
            loaded = address in page.loads
            if parts.scheme == "data" or (parts.scheme in ("http", "https", "mailto") and not loaded):
                continue
            if parts.scheme or parts.netloc:
                wrong.append(f"{path}: loads {address}")
                continue
            n_links += 1
            name, fragment = urldefrag(unquote(address))
            target = (path.parent / urlsplit(name).path).resolve() if name else path
            if not target.is_file():
                wrong.append(f"{path}: {address} is not there")
            elif fragment and target in pages and fragment not in pages[target].ids:
                wrong.append(f"{path}: {address} has no such place")
    for path in site.rglob("*.css"):
        wrong += [f"{path}: loads {at}" for at in loads_of_css(path.read_text("utf-8")) if urlsplit(at).netloc]
    print(f"{len(pages)} pages, {n_links} links and files, {len(wrong)} problems")
    return wrong


if __name__ == "__main__":
    found = problems(Path(sys.argv[1]).resolve())
    print("\n".join(found))
    sys.exit(bool(found))
