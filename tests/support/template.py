"""The template as it is being edited, with the suite's own lab in place of the real one, and the way to render it."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import copier
import yaml
from support.process import commit, edit, git

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent


class Loader(yaml.SafeLoader):
    """Reads copier.yml, whose !include is left as a file name."""


Loader.add_constructor("!include", lambda loader, node: node.value)

CONFIG = yaml.load((ROOT / "copier.yml").read_text(), Loader)
QUESTIONS = {
    name: details for name, details in CONFIG.items() if not name.startswith("_") and details.get("when", True)
}


def asked(question):
    """Return what a person sees of a question: its help, up to the list of the lab's machines."""
    return QUESTIONS[question]["help"].split("{%")[0]


LAB = yaml.safe_load((TESTS / "lab.yml").read_text())
MACHINES = LAB["machines"]


@dataclass
class Template:
    """A copy of the template, with its uncommitted changes, in a repository of its own."""

    path: Path
    version: str | None
    renders: dict = field(default_factory=dict)  # what it gives, by name and answers: shared with its copies
    shelf: Path = None  # where that is kept

    def __post_init__(self):
        self.shelf = self.shelf or self.path.parent

    def copy(self, path):
        """A template like this one, which its holder may change and release."""
        return Template(shutil.copytree(self.path, path), self.version, self.renders, self.shelf)

    def release(self, version, changes=()):
        """Commit and tag. Each change is (file, old text, new text)."""
        for name, old, new in changes:
            edit(self.path / name, old, new)
        commit(self.path, version)
        git(self.path, "tag", "--annotate", version, "--message", version)
        git(self.path, "repack", "--quiet", "-a", "-d")  # as in a clone: Copier makes several of it at each update


def copy_template(path, version="v1.0.0", lab_file=TESTS / "lab.yml"):
    for name in git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        if name and (ROOT / name).is_file():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, path / name)
    shutil.copy(lab_file, path / "lab.yml")
    git(path, "init", "--quiet")
    template = Template(path, version)
    template.release(version)
    return template


def render(template, destination, **answers):
    """`copier copy --defaults` into a folder, with no trust. Refuses answers to questions that do not exist."""
    unknown = answers.keys() - QUESTIONS.keys()
    assert not unknown, f"no such questions: {unknown}"
    copier.run_copy(
        str(template.path), destination, data=answers, defaults=True, quiet=True, unsafe=False, vcs_ref=template.version
    )
    return Path(destination)
