"""XML without entities and document types, so that a file can neither grow nor read another one."""

from pathlib import Path
from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from tasks.core.paths import describe_os_error
from tasks.core.settings import ConfigError

MOST_BYTES = 64 * 2**20  # of a file; pages have some hundred kilobytes
_MOST_DEPTH = 100  # of elements in elements
_MOST_SIGNS = 1_000_000  # of < and =; a newspaper with a box for each letter has some 200,000
_ACCEPTED = "PAGE XML or ALTO, without a document type and entities"


def read_xml(path: Path) -> Element:
    """Return the root of an XML file; names of elements and attributes are without name spaces.

    Raises:
        ConfigError: the file cannot be read, is no XML, has more than 64 MiB or a million tags and
            attributes, or has a document type, in which entities could be declared (`billion
            laughs`, files of the machine).
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(str(path), "", describe_os_error(path, error), _ACCEPTED) from None
    if len(data) > MOST_BYTES:
        problem = f"has more than {MOST_BYTES // 2**20} MiB"
        raise ConfigError(str(path), "", problem, _ACCEPTED)
    try:
        return _parsed(data)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise ConfigError(str(path), "", f"is not XML: {error}", _ACCEPTED) from None


def _parsed(data: bytes) -> Element:
    if data.count(b"<") + data.count(b"=") > _MOST_SIGNS:  # each takes far more than its letters
        raise ValueError(f"more than {_MOST_SIGNS:,} tags and attributes")
    builder = TreeBuilder()
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _MOST_DEPTH:
            raise ValueError(f"more than {_MOST_DEPTH} elements within each other")
        builder.start(_local(name), {_local(key): value for key, value in attributes.items()})

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(_local(name))

    def refuse(*_: object) -> NoReturn:
        raise ValueError("it has a document type, in which entities could be declared")

    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.ExternalEntityRefHandler = refuse
    parser.Parse(data, True)
    return builder.close()


def _local(name: str) -> str:
    return name.rpartition("}")[2]
