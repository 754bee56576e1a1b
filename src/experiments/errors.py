"""Problems that a user can solve, each in one line."""


class Problem(Exception):
    """What is wrong, and a hint: a sentence that states what to do."""

    def __init__(self, what: str, hint: str = "") -> None:
        what, hint = one_line(what), one_line(hint)
        super().__init__(f"{what.removesuffix('.')}. {hint}" if hint else what)


def one_line(text: str) -> str:
    """Return foreign text as one line that a terminal can print: no line ends, escapes or other control characters."""
    words = " ".join(text.split())
    if words.isprintable():
        return words
    return "".join(character if character.isprintable() else "?" for character in words)


def reason(error: BaseException) -> str:
    """Return an exception's message in one line, which is never empty."""
    if isinstance(error, OSError) and error.strerror:
        return one_line(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
    return one_line(str(error)) or type(error).__name__
