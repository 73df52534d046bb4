"""Tables of pages that programs write: what is between two marks is theirs, the rest a person's."""


def replaced(page: str, begin: str, end: str, text: str) -> str:
    r"""Return a page with `text` between two marks, which stay.

    >>> replaced("a <!-- b --> old <!-- e --> z", "<!-- b -->", "<!-- e -->", "\nnew\n")
    'a <!-- b -->\nnew\n<!-- e --> z'

    Raises:
        ValueError: a mark is missing or there twice, or the end is before the beginning.
    """
    for mark in (begin, end):
        if page.count(mark) != 1:
            raise ValueError(f"page: has {mark!r} {page.count(mark)} times; accepted: once")
    before, _, rest = page.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"page: {end!r} is before {begin!r}; accepted: after it")
    return f"{before}{begin}{text}{end}{after}"
