"""Skip the tests named by SKIP, and report all skipped tests."""

import os
from collections import Counter

import pytest

# The fixture of the tests that a word of SKIP skips.
FIXTURES = {"slurm": "needs_slurm", "bolt": "bolt", "index": "uv", "browser": "browser"}


def words():
    return os.environ.get("SKIP", "").replace(",", " ").split()


def check_words():
    """Refuse a word of SKIP that skips nothing."""
    unknown = [word for word in words() if word not in FIXTURES]
    if unknown:
        raise pytest.UsageError(f'SKIP: unknown word "{unknown[0]}"; expected some of: {", ".join(FIXTURES)}')


def mark(item):
    """Skip a test that uses the fixture of a word of SKIP."""
    for word in words():
        if FIXTURES[word] in item.fixturenames:
            item.add_marker(pytest.mark.skip(reason=f"SKIP={word}"))


def report(config):
    """Print how many tests were skipped, by reason. Workers of xdist print nothing."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if hasattr(config, "workerinput") or not terminal:
        return
    reasons = Counter(test.longrepr[2].removeprefix("Skipped: ") for test in terminal.stats.get("skipped", []))
    for reason, count in sorted(reasons.items()):
        terminal.write_line(f"skipped {count} test{'s' if count > 1 else ''}: {reason}", yellow=True)
