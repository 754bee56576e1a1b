"""What may go wrong, said in one line."""


class Problem(Exception):
    """What is wrong, in one line, and the way out where there is one."""

    def __init__(self, what: str, way_out: str = "") -> None:
        self.what = one_line(what)
        self.way_out = one_line(way_out)
        super().__init__("; ".join(filter(None, [self.what, self.way_out])))


def one_line(text: str) -> str:
    """Text of others, fit for a line of a terminal: no line ends, escape sequences and other control characters."""
    words = " ".join(text.split())
    return "".join(character if character.isprintable() else "?" for character in words)


def reason(error: BaseException) -> str:
    """What an exception says in one line, which is never empty."""
    if isinstance(error, OSError) and error.strerror:
        return one_line(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
    return one_line(str(error)) or type(error).__name__
