"""The elements of a page, for tests of what is on it; how it looks and behaves is a browser's to show."""

import re
from html.parser import HTMLParser


class Elements(HTMLParser):
    """Collects the start tags of a page, with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def assert_self_contained(page: str, scripts: int = 1) -> None:
    """Asserts that a page refers to nothing outside, and that no name in it has become markup."""
    elements = Elements(page)
    assert not {'link', 'iframe', 'object', 'base'} & {tag for tag, _ in elements.found}
    for _, attributes in elements.found:
        assert not {'onload', 'onerror'} & attributes.keys()
        for name in ('src', 'href', 'xlink:href', 'srcset', 'action', 'data', 'poster'):
            assert (attributes.get(name) or '#').startswith(('data:image/jpeg;base64,', '#'))
    bare = re.sub(r'base64,[\w+/=]+', '', page)
    assert not re.search(r'https?:|@import|fetch\(|import\(|url\((?!#)|(?<!data)://', bare)
    assert all(picture['alt'] for picture in elements.named('img'))
    assert len(elements.named('script')) == scripts
