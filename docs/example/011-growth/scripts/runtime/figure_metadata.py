"""The metadata of a PNG, SVG, PDF or GIF, read with the standard library alone."""

import os
import re
import struct
from collections.abc import Mapping

# The keys of a figure's metadata that state how it was made, as they are listed.
PROVENANCE = ("Script", "Configuration", "Overrides", "Command", "Commit", "Job", "Run", "Trial")
INTERACTIVE = "interactive session"  # the script in the metadata of a figure that no file has made

PNG = b"\x89PNG\r\n\x1a\n"
DESCRIPTION = "{http://purl.org/dc/elements/1.1/}description"
PDF_ENTRY = re.compile(rb"/(\w+) \(((?:[^\\()]|\\.)*)\)", re.DOTALL)
PDF_END = 1_000_000  # bytes at the end of a PDF, in which matplotlib writes the metadata
GIF_HEADER = 13  # bytes
PDF_ESCAPES = {b"n": b"\n", b"r": b"\r"}


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the metadata of a figure. It is empty if the file is damaged or of another format.

    Raises OSError if the file cannot be read.
    """
    reader = READERS.get(os.path.splitext(path)[1].lower())
    return reader(path) if reader else {}


def read_png(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the text chunks before the pixels, by keyword."""
    texts: dict[str, str] = {}
    with open(path, "rb") as file:
        if file.read(len(PNG)) != PNG:
            return {}
        while len(header := file.read(8)) == 8:
            size, kind = struct.unpack(">I4s", header)
            if kind == b"IDAT":
                break
            if kind in (b"tEXt", b"iTXt"):
                keyword, _, text = file.read(size).partition(b"\0")
                texts[keyword.decode("latin-1")] = decode_png_text(kind, text)
                size = 0
            file.seek(size + 4, os.SEEK_CUR)  # a chunk ends with a checksum
    return texts


def decode_png_text(kind: bytes, text: bytes) -> str:
    if kind == b"tEXt":
        return text.decode("latin-1")
    return text[2:].split(b"\0", 2)[-1].decode(errors="replace")  # skip two flags, a language and a translation


def read_svg(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the lines `Name: value` of the description."""
    from xml.etree import ElementTree  # here, since every script that starts would wait for this import

    try:
        for _, element in ElementTree.iterparse(path):
            if element.tag == DESCRIPTION:
                return split_lines(element.text or "")
    except (ElementTree.ParseError, LookupError, ValueError):  # an unknown encoding raises one of the last two
        pass
    return {}


def read_pdf(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the texts of all dictionaries at the end of the file. One of them holds the metadata."""
    with open(path, "rb") as file:
        file.seek(max(os.path.getsize(path) - PDF_END, 0))
        entries = PDF_ENTRY.findall(file.read())
    return {name.decode("latin-1"): decode_pdf_text(text) for name, text in entries}


def decode_pdf_text(text: bytes) -> str:
    plain = re.sub(rb"\\(.)", lambda match: PDF_ESCAPES.get(match[1], match[1]), text, flags=re.DOTALL)
    if plain.startswith(b"\xfe\xff"):
        return plain[2:].decode("utf-16-be", errors="replace")
    return plain.decode("latin-1")


def read_gif(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the lines `Name: value` of the first comment before the pixels."""
    with open(path, "rb") as file:
        header = file.read(GIF_HEADER)
        if len(header) < GIF_HEADER or not header.startswith(b"GIF8"):
            return {}
        file.seek(color_bytes(header), os.SEEK_CUR)
        while file.read(1) == b"!":
            is_comment = file.read(1) == b"\xfe"
            content = b""
            while size := (file.read(1) or b"\0")[0]:
                content += file.read(size)
            if is_comment:
                return split_lines(content.decode(errors="replace"))
    return {}


def add_gif_comment(content: bytes, text: str) -> bytes:
    """Return a GIF with a comment before its pixels, in blocks of at most 255 bytes."""
    start, comment = GIF_HEADER + color_bytes(content), text.encode()
    parts = [comment[first : first + 255] for first in range(0, len(comment), 255)]
    blocks = b"".join(bytes([len(part)]) + part for part in parts)
    return b"GIF89a" + content[6:start] + b"!\xfe" + blocks + b"\0" + content[start:]


def color_bytes(header: bytes) -> int:
    """Return the size of a GIF's table of colors."""
    return 3 * 2 ** ((header[10] & 7) + 1) if header[10] & 0x80 else 0


def join_lines(entries: Mapping[str, str]) -> str:
    """Return metadata as lines `Name: value`."""
    return "\n".join(f"{name}: {' '.join(value.split())}" for name, value in entries.items())


def split_lines(text: str) -> dict[str, str]:
    return {name: value for name, _, value in (line.partition(": ") for line in text.splitlines())}


READERS = {".png": read_png, ".svg": read_svg, ".pdf": read_pdf, ".gif": read_gif}
