"""Every command and piece of Python in README.md and docs/data.md runs as it stands, and every link leads somewhere."""

import os
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PAGES = sorted([PROJECT / "README.md", PROJECT / "CHANGELOG.md", *PROJECT.glob("docs/*.md")])

# What would take too long here, and what is run instead. All other commands are run as they stand.
SHORT_FORMS = {"make demo": "hpcsurrogate run configs/smoke.yaml run_dir=runs/demo"}
# What cannot run inside a test: the set-up, and the tests themselves. They must be targets that make can follow.
TARGETS_ONLY = ("make install", "make test", "make demo")


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, text) of every fenced block, in order."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)


def commands(text: str) -> list[str]:
    """The commands of a bash block: continued lines joined, comments and empty lines left out."""
    lines = (re.sub(r"\s+#.*$|^#.*$", "", line).strip() for line in text.replace("\\\n", " ").splitlines())
    return [line for line in lines if line]


def run(command: str | list[str], folder: Path, timeout: float = 180.0) -> None:
    environment = os.environ | {"PATH": f"{folder / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        command, shell=isinstance(command, str), cwd=folder, env=environment, timeout=timeout,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A folder like a clone after `make demo`, with a space in its name: configurations, the command, runs/demo."""
    folder = tmp_path_factory.mktemp("a clone")
    shutil.copytree(PROJECT / "configs", folder / "configs")
    setup = ConfigParser()
    setup.read(PROJECT / "setup.cfg")
    name, module, function = re.split(r"\s*[=:]\s*", setup["options.entry_points"]["console_scripts"].strip())
    script = folder / ".venv" / "bin" / name
    script.parent.mkdir(parents=True)
    program = f"import sys; from {module} import {function}; sys.exit({function}())"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{program}" "$@"\n')
    script.chmod(0o755)
    run(SHORT_FORMS["make demo"], folder)
    return folder


@pytest.mark.parametrize("page", ["README.md", "docs/data.md"])
def test_everything_on_the_page_runs(clone, page):
    """In the order of the page: what a block makes, the next may use."""
    found = blocks(PROJECT / page)
    assert {"bash", "python"} <= {language for language, _ in found}
    for language, text in found:
        if language == "python":
            run([sys.executable, "-c", text], clone)
        for command in commands(text) if language == "bash" else ():
            if command in TARGETS_ONLY:
                run(["make", "-n", *command.split()[1:]], PROJECT)
            if command in SHORT_FORMS or command not in TARGETS_ONLY:
                run(SHORT_FORMS.get(command, command), clone)


def test_short_forms_stand_for_what_the_pages_say():
    """An entry that no page uses any more would hide that its command is no longer tried."""
    said = {
        command for page in PAGES for language, text in blocks(page) if language == "bash" for command in commands(text)
    }
    assert set(SHORT_FORMS) <= said
    makefile = (PROJECT / "Makefile").read_text()
    assert "run configs/demo.yaml" in makefile.split("\ndemo:")[1].split("\n\n")[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not re.match(r"https?://|#", target):
            assert (page.parent / target.split("#")[0]).exists(), target
