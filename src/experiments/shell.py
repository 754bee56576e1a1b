"""Read bash scripts as text, without executing anything: commands, variables and `#SBATCH` lines."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from math import prod

ANY = "*"  # what a variable of unknown value becomes in an expanded word
ALTERNATIVES = 1000  # of one expanded word; a word with more becomes ANY
LONGEST = 4000  # characters of an expanded word
DEPTH = 8  # of scripts in scripts

# Words that begin or continue a compound command, as the first word of a command.
RESERVED = {"if", "then", "elif", "else", "while", "until", "do", "!", "time", "{", "coproc", "fi", "done", "}", "esac"}
DECLARING = {"export", "declare", "local", "readonly", "typeset"}
SHELLS = {"bash", "sh", "dash", "zsh"}
OUTPUT = {"echo", "printf", "logger", "print_start"}  # the last is of the launchers

BLANK = re.compile(r"(?:[ \t\r]|\\\r?\n)+")
EMPTY_LINES = re.compile(r"(?:[ \t\r]*(?:#[^\n]*)?\n)+")  # and those with a comment only
PLAIN = re.compile(r"[^\s\"'\\$`|&;()<>]+")
OPERATOR = re.compile(r"&&|\|\||\|&|;;&?|;&|[|&;()]")
REDIRECT = re.compile(r"(?:\d+|\{\w+\})?(?:<<<|<<-?|>>|>\||<>|[<>]&|[<>])|&>>?")
ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(?:\[[^]]*\])?\+?=")
VARIABLE = re.compile(r"\$(?:[A-Za-z_]\w*|[0-9@*#?$!_-])")
DIRECTIVE_WORD = re.compile(r"(?:[^\s\"'\\#]|\\.|\"(?:[^\"\\]|\\.)*\"?|'(?:[^'\\]|\\.)*'?)+")
QUOTE = re.compile(r"\\(.)|[\"']", re.DOTALL)
EXPANSION = re.compile(r"\$\{(!?)(\w+|[@*#?])(\[[^]]*\])?(?:(:?[-=+?])(.*))?\}", re.DOTALL)
CLOSING = {"$(": ")", "${": "}", "(": ")", "{": "}", "`": "`", '"': '"', "'": "'"}
OPENING = set("$({`\"'")
QUOTED_SPECIAL = re.compile(r"[\\$`]")
SPECIAL = re.compile(r"[\\$(){}`\"']")
SPREAD = re.compile(r"\$\{(\w+)\[[@*]\]\}|\$\{?(\w+)\}?")
FORMAT = re.compile(r"%[-+ #0]*\d*(?:\.\d+)?[a-zA-Z]")


@dataclass(frozen=True)
class Directive:
    """A line `#SBATCH ...`, with its words as Slurm splits them."""

    line: int  # from 1
    text: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Command:
    """A simple command. Its words have no quotes; variables are as written, like `$PWD/$1`."""

    words: tuple[str, ...]
    files: tuple[str, ...] = ()  # of redirections
    assigned: tuple[tuple[str, tuple[str, ...]], ...] = ()  # (name, values) before the words; an array has any number
    outer: tuple[str, ...] = ()  # the words before it, if it is in the text of `srun bash -c "..."`
    document: str = ""  # a here document or a here string
    is_piped: bool = False  # whether its output goes to another command
    is_value: bool = False  # whether its output is used, as in $( )

    @property
    def program(self) -> str:
        """The name of what it starts, without its folder; empty for a mere assignment."""
        return self.words[0].rpartition("/")[2] if self.words else ""

    @property
    def is_message(self) -> bool:
        """Return whether its words are only shown to people."""
        return self.program in OUTPUT and not self.is_piped and not self.is_value


@dataclass
class Script:
    """A bash script, as text."""

    text: str
    commands: list[Command] = field(default_factory=list)  # in order, also those in $( ) and in `bash -c "..."`
    variables: dict[str, tuple[str, ...]] = field(
        default_factory=dict
    )  # the last values; arrays and loops have several
    expanded: dict[str, list[str]] = field(default_factory=dict)  # their values without variables, as far as asked

    @classmethod
    def parse(cls, text: str) -> "Script":
        """Read a script. Text that bash could not read ends early."""
        text = text.replace("\r\n", "\n")
        script = cls(text, read_commands(text))
        for command in script.commands:
            for name, values in command.assigned:
                script.variables[name] = values
        return script

    @cached_property
    def directives(self) -> list[Directive]:
        """The #SBATCH lines that Slurm reads: those before the first command."""
        found = []
        for number, line in enumerate(self.text.split("\n"), 1):
            if line.startswith("#SBATCH"):
                found.append(Directive(number, line, directive_words(line.removeprefix("#SBATCH"))))
            elif line.strip() and not line.lstrip().startswith("#"):
                break
        return found

    @cached_property
    def ignored_directives(self) -> list[Directive]:
        """The #SBATCH lines that Slurm ignores: indented ones, and those after the first command."""
        read = {directive.line for directive in self.directives}
        lines = enumerate(self.text.split("\n"), 1)
        return [
            Directive(number, line, ())
            for number, line in lines
            if line.lstrip().startswith("#SBATCH") and number not in read
        ]

    def expand(self, word: str) -> list[str]:
        """Return the texts that a word may become. An unknown part is ANY; a default value is one alternative."""
        if "$" not in word and "`" not in word:
            return [word]
        parts = [self.expand_part(part) for part in split_word(word)]
        if prod(len(part) for part in parts) > ALTERNATIVES or sum(len(part[0]) for part in parts) > LONGEST:
            return [ANY]
        return list(dict.fromkeys("".join(choice) for choice in product(*parts)))

    def values_of(self, name: str) -> list[str]:
        """Return the expanded values of a variable; none if the script does not set it."""
        if name not in self.expanded:
            self.expanded[name] = [ANY]  # for a variable in its own value
            texts = [text for value in self.variables.get(name, ()) for text in self.expand(value)]
            self.expanded[name] = list(dict.fromkeys(texts))
        return self.expanded[name]

    def expand_part(self, part: str) -> list[str]:
        """Return the alternatives of literal text or of one expansion."""
        if not part.startswith(("$", "`")) or len(part) == 1:
            return [part]
        if part.startswith(("$(", "`")):
            return [self.output_of(part)]
        found = EXPANSION.fullmatch(part)
        name = found[2] if found else part[1:]
        operator = (found[4] or "") if found else ""
        if part.startswith("${") and (not found or found[1]):
            return [ANY]
        if operator.endswith(("-", "=")) and found and name not in self.variables:
            return [*self.expand(found[5]), ANY]
        return self.values_of(name) or [ANY]

    def output_of(self, substitution: str) -> str:
        """Return what `$(printf FORMAT ...)` or `$(echo TEXT)` prints, with ANY for what it inserts; else ANY."""
        commands = read_commands(substitution.removeprefix("$(").removesuffix(")").strip("`"))
        if len(commands) != 1 or commands[0].program not in ("printf", "echo") or len(commands[0].words) < 2:
            return ANY
        text = FORMAT.sub(ANY, commands[0].words[1])
        return "".join(ANY if part.startswith(("$", "`")) else part for part in split_word(text))

    def spread(self, command: Command) -> list[str]:
        """Return a command's words, with an array's words for `"${run[@]}"`, and with what stands before `bash -c`."""
        words: list[str] = []
        for word in (*command.outer, *command.words):
            name = SPREAD.fullmatch(word)
            values = self.variables.get(name[1] or name[2], ()) if name else ()
            if name and name[1] and values:
                words += values
            elif (
                len(values) == 1 and " " in values[0] and not values[0].startswith(("$(", "${", "`"))
            ):  # a command line
                words += values[0].split()
            else:
                words.append(word)
        return words


def pattern_of(word: str) -> str:
    """Return a word with ANY for each expansion in it."""
    return "".join(ANY if part.startswith(("$", "`")) and len(part) > 1 else part for part in split_word(word))


def directive_words(text: str) -> tuple[str, ...]:
    """Split the text after #SBATCH as Slurm does: quotes and backslashes quote, and an unquoted # begins a comment."""
    words, position = [], 0
    while position < len(text):
        if text[position].isspace():
            position += 1
        elif found := DIRECTIVE_WORD.match(text, position):
            words.append(without_quotes(found[0]))
            position = found.end()
        else:
            break
    return tuple(words)


def without_quotes(text: str) -> str:
    """Remove quotes and backslashes."""
    return QUOTE.sub(lambda found: found[1] or "", text)


def split_word(word: str) -> Iterator[str]:
    """Yield the parts of a word: literal text and expansions, in order."""
    if "$" not in word and "`" not in word:
        yield word
        return
    position = begin = 0
    while position < len(word):
        end = position
        if word[position] == "$":
            end = end_of_expansion(word, position)
        elif word[position] == "`":
            end = end_of(word, position + 1, "`")
        if end == position:
            position += 1
            continue
        if begin < position:
            yield word[begin:position]
        yield word[position:end]
        begin = position = end
    if begin < len(word):
        yield word[begin:]


def end_of_expansion(text: str, position: int) -> int:
    """Return where the expansion at a `$` ends; the position itself if there is none."""
    if text.startswith("${", position):
        return end_of(text, position + 2, "}")
    if text.startswith("$(", position):
        return end_of(text, position + 2, ")")
    found = VARIABLE.match(text, position)
    return found.end() if found else position


def end_of(text: str, position: int, closing: str) -> int:
    """Return the position after the closing quote or bracket, past those that are nested in it."""
    if closing == "'":
        return text.find("'", position) + 1 or len(text)
    stack = [closing]
    while found := SPECIAL.search(text, position):
        position = found.start()
        inner, character = stack[-1], text[position]
        if character == inner:
            stack.pop()
            if not stack:
                return position + 1
        elif inner != "'":
            if character == "\\":
                position += 1
            elif opened := opens(text, position, stack):
                position += len(opened) - 1
                stack.append(CLOSING[opened])
        position += 1
    return len(text)


def opens(text: str, position: int, stack: list[str]) -> str:
    """Return the quote or bracket that opens here; empty if none does. In double quotes only `$` and "`" do."""
    if text[position] not in OPENING:
        return ""
    found = text[position : position + 2] if text[position] == "$" else text[position]
    if stack[-1] == '"':
        return found if found in ("$(", "${", "`") else ""
    if found == "'" and stack[-1] == "}" and '"' in stack:
        return ""
    if found in ("(", "{"):
        return found if CLOSING[found] == stack[-1] else ""
    return found if found in CLOSING else ""


def read_commands(text: str, outer: tuple[str, ...] = (), depth: int = 0) -> list[Command]:
    """Return the simple commands of a script, also those in `$( )`, in `bash -c TEXT` and in `bash <<END`."""
    reader = Reader(text)
    reader.read()
    found: list[Command] = []
    for command in reader.commands:
        inner = "" if depth > DEPTH else text_for_shell(command)
        if not inner:
            found.append(replace(command, outer=outer) if outer else command)
            continue
        begin = next((at for at, word in enumerate(command.words) if word == inner), len(command.words))
        found.append(replace(command, words=(), document="", outer=outer))
        found += read_commands(inner, (*outer, *command.words[:begin]), depth + 1)
    for inner in reader.inner:
        if depth <= DEPTH:
            found += [replace(command, is_value=True) for command in read_commands(inner, outer, depth + 1)]
    return found


def text_for_shell(command: Command) -> str:
    """Return the script that a command gives to a shell by `-c` or by a here document; empty if there is none."""
    for at, word in enumerate(command.words):
        if word.rpartition("/")[2] not in SHELLS:
            continue
        options = command.words[at + 1 :]
        for number, option in enumerate(options):
            if not option.startswith("-"):
                break
            if re.fullmatch(r"-[a-z]*c", option):
                return options[number + 1] if number + 1 < len(options) else ""
        return command.document if all(option.startswith("-") for option in options) else ""
    return ""


READERS = {
    "'": "read_single",
    '"': "read_double",
    "\\": "read_escape",
    "$": "read_dollar",
    "`": "read_backticks",
}


class Reader:
    """Split the text of a script into simple commands. `inner` collects the texts of command substitutions."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.commands: list[Command] = []
        self.inner: list[str] = []
        self.documents: list[tuple[str, bool]] = []  # delimiters of here documents that have not started yet
        self.document = ""
        self.waiting: list[int] = []  # numbers of the commands that get those texts
        self.begin_command()

    def begin_command(self) -> None:
        self.words: list[str] = []
        self.files: list[str] = []
        self.assigned: list[tuple[str, tuple[str, ...]]] = []
        self.document = ""
        self.pending = 0

    def read(self) -> None:
        """Read the whole text."""
        while self.at < len(self.text):
            self.skip_blanks()
            if self.at >= len(self.text):
                break
            self.read_token()
        self.end_command()

    def skip_blanks(self) -> None:
        if blank := BLANK.match(self.text, self.at):
            self.at = blank.end()
        if self.text.startswith("#", self.at):
            end = self.text.find("\n", self.at)
            self.at = len(self.text) if end < 0 else end

    def read_token(self) -> None:
        """Read one word, operator, redirection or end of line."""
        if self.text[self.at] == "\n":
            self.end_command()
            self.at += 1
            self.read_documents()
            if empty := EMPTY_LINES.match(self.text, self.at):
                self.at = empty.end()
        elif self.text.startswith("((", self.at) and (not self.words or self.words == ["for"]):
            self.at = end_of(self.text, self.at + 1, ")")
            self.words = []
        elif redirect := self.match_redirect():
            self.at = redirect.end()
            self.read_redirection(redirect[0].lstrip("0123456789"))
        elif operator := OPERATOR.match(self.text, self.at):
            self.at = operator.end()
            self.end_command(operator[0] in ("|", "|&"))
        else:
            self.add_word(self.read_word())

    def match_redirect(self) -> re.Match[str] | None:
        """Return a redirection here. `<(` and `>(` begin a word: they name a file."""
        found = REDIRECT.match(self.text, self.at)
        return None if found and found[0][-1] in "<>" and self.text.startswith("(", found.end()) else found

    def read_redirection(self, operator: str) -> None:
        self.skip_blanks()
        target = self.read_word()
        if operator in ("<<", "<<-"):
            self.documents.append((target, operator == "<<-"))
            self.pending += 1
        elif operator == "<<<":
            self.document = target
        elif not operator.endswith("&"):
            self.files.append(target)

    def read_documents(self) -> None:
        """Read the here documents of the commands on the line before."""
        for number, (delimiter, strips) in zip(self.waiting, self.documents, strict=False):
            lines = []
            while self.at < len(self.text):
                end = self.text.find("\n", self.at)
                line = self.text[self.at :] if end < 0 else self.text[self.at : end]
                self.at = len(self.text) if end < 0 else end + 1
                if (line.lstrip("\t") if strips else line) == delimiter:
                    break
                lines.append(line)
            self.commands[number] = replace(self.commands[number], document="\n".join(lines))
        self.documents, self.waiting = [], []

    def add_word(self, word: str) -> None:
        """Add a word to the command, unless it is an assignment before it, or a word of the shell's grammar."""
        found = ASSIGNMENT.match(word)
        if found and (not self.words or self.words[0] in DECLARING):
            if self.text.startswith("(", self.at) and found.end() == len(word):
                self.assigned.append((found[1], self.read_array()))
            else:
                self.assigned.append((found[1], (word[found.end() :],)))
        elif self.words or word not in RESERVED:
            self.words.append(word)

    def read_array(self) -> tuple[str, ...]:
        """Read the words of NAME=( ... )."""
        self.at += 1
        words: list[str] = []
        while self.at < len(self.text):
            self.skip_blanks()
            if self.text.startswith(")", self.at):
                self.at += 1
                break
            if self.text.startswith("\n", self.at):
                self.at += 1
            elif word := self.read_word():
                words.append(word)
            else:
                self.at += 1
        return tuple(words)

    def end_command(self, is_piped: bool = False) -> None:
        """Add the command, if there is one. `for NAME in WORDS` assigns."""
        if len(self.words) > 2 and self.words[0] in ("for", "select") and self.words[2] == "in":
            self.assigned.append((self.words[1], tuple(self.words[3:])))
            self.words = []
        if self.words or self.assigned or self.files:
            made = Command(tuple(self.words), tuple(self.files), tuple(self.assigned), (), self.document, is_piped)
            self.waiting += [len(self.commands)] * self.pending
            self.commands.append(made)
        self.begin_command()

    def read_word(self) -> str:
        """Read a word, without its quotes."""
        parts: list[str] = []
        begin = self.at
        while self.at < len(self.text):
            if plain := PLAIN.match(self.text, self.at):
                parts.append(plain[0])
                self.at = plain.end()
                continue
            read = self.reader_of(self.text[self.at])
            if not read:
                break
            parts.append(read())
        if self.at == begin:  # an operator where a word should be
            self.at += 1
        return "".join(parts)

    def reader_of(self, character: str) -> Callable[[], str] | None:
        """Return what reads the next part of a word; None where the word ends."""
        if character in "<>" and self.text.startswith("(", self.at + 1):
            return self.read_process
        name = READERS.get(character)
        return getattr(self, name) if name else None

    def read_single(self) -> str:
        begin, self.at = self.at + 1, end_of(self.text, self.at + 1, "'")
        return self.text[begin : self.at].removesuffix("'")

    def read_escape(self) -> str:
        character = self.text[self.at + 1 : self.at + 2]
        self.at += 2
        return "" if character == "\n" else character

    def read_double(self) -> str:
        """Read text in double quotes, and collect the commands in it."""
        begin, self.at = self.at + 1, end_of(self.text, self.at + 1, '"')
        ended = self.text[begin : self.at].endswith('"')
        text = self.text[begin : self.at - 1 if ended else self.at]
        parts = []
        for part in split_quoted(text):
            self.collect(part)
            parts.append(part if part.startswith(("$", "`")) else re.sub(r"\\([\"\\$`])|\\\n", r"\1", part))
        return "".join(parts)

    def read_dollar(self) -> str:
        """Read an expansion, `$'...'`, or a mere `$`."""
        if self.text.startswith("$'", self.at):
            begin, self.at = self.at + 2, end_of_ansi(self.text, self.at + 2)
            return self.text[begin : self.at].removesuffix("'")
        begin, self.at = self.at, max(end_of_expansion(self.text, self.at), self.at + 1)
        part = self.text[begin : self.at]
        self.collect(part)
        return without_quotes(part) if part.startswith("${") else part

    def read_backticks(self) -> str:
        begin, self.at = self.at, end_of(self.text, self.at + 1, "`")
        self.collect(self.text[begin : self.at])
        return self.text[begin : self.at]

    def read_process(self) -> str:
        begin, self.at = self.at, end_of(self.text, self.at + 2, ")")
        self.inner.append(self.text[begin + 2 : self.at - 1])
        return ""

    def collect(self, part: str) -> None:
        """Keep the text of a command substitution."""
        if part.startswith("$(") and not part.startswith("$(("):
            self.inner.append(part[2:-1])
        elif part.startswith("`"):
            self.inner.append(part.strip("`"))


def split_quoted(text: str) -> Iterator[str]:
    """Yield the parts of text in double quotes: literal text, where `\\$` is literal, and expansions."""
    if "$" not in text and "`" not in text:
        yield text
        return
    position = begin = 0
    while position < len(text):
        found = QUOTED_SPECIAL.search(text, position)
        if not found:
            break
        end = position = found.start()
        character = text[position]
        if character == "\\":
            position += 2
            continue
        if character == "$":
            end = end_of_expansion(text, position)
        elif character == "`":
            end = end_of(text, position + 1, "`")
        if end == position:
            position += 1
            continue
        if begin < position:
            yield text[begin:position]
        yield text[position:end]
        begin = position = end
    if begin < len(text):
        yield text[begin:]


def end_of_ansi(text: str, position: int) -> int:
    """Return the position after the quote that closes `$'...'`, where a backslash quotes."""
    found = re.compile(r"(?:[^'\\]|\\.)*'?", re.DOTALL).match(text, position)
    return found.end() if found else len(text)
