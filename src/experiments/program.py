"""Python scripts of experiments, read as text. Nothing is imported."""

import re
from dataclasses import dataclass
from pathlib import Path

# The decorator of a Hydra application: its arguments end before the next decorator or the function.
HYDRA_MAIN = re.compile(r"^@(?:\w+\.)*main\((.*?)\)[ \t]*(?:#.*)?\n(?=@|def |async def )", re.MULTILINE | re.DOTALL)
CONFIG_NAME = re.compile(r"\bconfig_name\s*=\s*[\"']([^\"']+)[\"']")
RUNTIME = re.compile(r"^\s*(?:from|import)\s+runtime\b", re.MULTILINE)


@dataclass(frozen=True)
class Program:
    """How a script uses Hydra and the template's runtime, read from its text."""

    has_hydra: bool
    config: str  # the default configuration of its hydra.main; empty if that names none
    has_runtime: bool

    @classmethod
    def read(cls, path: Path) -> "Program":
        text = path.read_text(encoding="utf-8", errors="replace")
        decorator = HYDRA_MAIN.search(text)
        name = CONFIG_NAME.search(decorator[1]) if decorator else None
        config = name[1].removesuffix(".yaml") if name else ""
        return cls(decorator is not None, config, RUNTIME.search(text) is not None)
