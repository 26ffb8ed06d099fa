"""The pages name what exists: settings, commands, files, headings."""

import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import yaml

from service import __version__
from service.client import Options
from service.settings import settings_table
from tests.docs.pages import PAGES, ROOT, anchors, links, name_of
from training.__main__ import COMMANDS


def test_readme_is_short() -> None:
    """README can be read in a few minutes."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= 160


def test_every_setting_is_in_the_table() -> None:
    """The table of settings is the one that the code prints."""
    assert settings_table() in (ROOT / "docs" / "operations.md").read_text()


def test_every_option_of_the_client_is_in_the_table() -> None:
    """docs/client.md names the options as the code has them, in the same order."""
    table = (ROOT / "docs" / "client.md").read_text().partition("| option |")[2]
    named = re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in table.splitlines()[1:] if "|" in line))
    assert named == [option.name for option in fields(Options)]


def test_every_training_command_is_in_the_table() -> None:
    """The page on training lists every command of the offline half."""
    table = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "training.md").read_text(), re.MULTILINE)
    assert set(table) == set(COMMANDS)


def test_every_preset_is_in_the_table() -> None:
    """The page on detectors lists every preset."""
    from training.detectors.presets import PRESETS

    table = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "detectors.md").read_text(), re.MULTILINE)
    assert set(table) == set(PRESETS)


def test_every_make_target_exists() -> None:
    """Every `make` target that a page names is in the Makefile."""
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"(?:`|^)make ([a-z][a-z-]*)", page.read_text(), re.MULTILINE))
        assert named <= targets, name_of(page)


def test_make_lists_every_target_with_a_purpose() -> None:
    """The list fits 80 columns, and its texts begin in one column."""
    makefile = (ROOT / "Makefile").read_text()
    printed = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    targets = re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE)
    assert [line.split()[1] for line in printed if line.startswith("  make ")] == targets
    assert max(map(len, printed)) <= 80
    assert {line[22] for line in printed} == {" "}
    assert all(line[23] != " " for line in printed)


def test_every_link_leads_somewhere() -> None:
    """Every link inside the repository leads to a file, and to a heading where it names one."""
    broken = []
    for page in PAGES:
        for link in links(page):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
                broken.append(f"{name_of(page)}: {link}")
    assert broken == []


def test_every_section_that_other_files_name_exists() -> None:
    """The notebook links to sections that exist, and so do comments and the changelog, as `docs/page.md#section`."""
    endings = {".ipynb", ".py", ".js", ".html", ".yaml", ".yml", ".env", ".cfg", ".sh", ".md"}
    folders = ("service", "training", "benchmarks", "deploy", "docs")
    named = []
    for file in (*PAGES, *(path for folder in folders for path in (ROOT / folder).rglob("*"))):
        if file.suffix in endings:
            named += [(file, ROOT / name) for name in re.findall(r"\bdocs/[\w/]+\.md(?:#[\w-]+)?", file.read_text())]
        if file.suffix == ".ipynb":
            links_of_cells = re.findall(r"\]\(([\w./]+\.md(?:#[\w-]+)?)\)", file.read_text())
            named += [(file, file.parent / name) for name in links_of_cells]
    broken = []
    for file, target in named:
        page, _, anchor = str(target).partition("#")
        if not Path(page).exists() or (anchor and anchor not in anchors(Path(page))):
            broken.append(f"{name_of(file)}: {target}")
    assert broken == []
    assert any(file.suffix == ".ipynb" for file, _ in named)


def test_every_named_file_exists() -> None:
    """Every path in backticks that starts with a folder of the repository exists, on pages that no command writes."""
    folders = "|".join(("service", "training", "benchmarks", "tests", "docs", "exported", "requirements"))
    missing = [
        f"{name_of(page)}: {path}"
        for page in PAGES
        for path in re.findall(rf"`((?:{folders})/[\w./-]*)`", page.read_text())
        if "do not edit" not in page.read_text() and not ((ROOT / path).exists() or (ROOT / "tests" / path).exists())
    ]
    assert missing == []


def test_every_path_of_the_architecture_tree_exists() -> None:
    """The tree that opens the architecture page is the tree of the repository, and has every folder of both halves."""
    tree = (ROOT / "ARCHITECTURE.md").read_text().split("```")[1]
    folder, paths = "", set()
    for indent, name in re.findall(r"^( *)([\w./]+)  +\S", tree, re.MULTILINE):
        if not indent:
            folder = name if name.endswith("/") else ""
        paths.add(f"{folder}{name}" if indent else name)
    missing = [path for path in sorted(paths) if not (ROOT / path).exists()]
    assert missing == []
    for half in ("service", "training", "benchmarks"):
        inside = {f"{half}/{child.parent.name}/" for child in (ROOT / half).glob("*/__init__.py")}
        assert inside <= paths


def test_the_container_runs_the_service_alone() -> None:
    """The Containerfile installs no extra and starts the service without a shell."""
    text = (ROOT / "Containerfile").read_text()
    assert not re.search(r"\[(train|simulate|dev|bench)", text)
    entrypoint = re.search(r"^ENTRYPOINT \[(.*)\]", text, re.MULTILINE)
    assert entrypoint is not None
    assert shlex.split(entrypoint.group(1).replace(",", " "))[-2:] == ["-m", "service"]


def test_the_changelog_and_the_citation_have_the_version() -> None:
    """The version and its date are the same in the code, in the changelog and in the citation."""
    release = re.search(r"^## (\S+) - (\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert release is not None
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["version"], str(citation["date-released"])) == release.groups()
    assert release[1] == __version__
    assert {"cff-version", "message", "title", "authors"} <= set(citation)


def test_continuous_integration_runs_the_commands_of_a_developer() -> None:
    """The workflow runs `.ci/run` on every Python that pyproject.toml names, and builds the image."""
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    supported = [text.rpartition(" ")[2] for text in classifiers if re.search(r"Python :: 3\.\d+$", text)]
    assert jobs["tests"]["strategy"]["matrix"]["python"] == supported
    assert ".ci/run" in [step.get("run") for step in jobs["tests"]["steps"]]
    assert "docs/examples/container.sh" in [step.get("run") for step in jobs["image"]["steps"]]


def test_hooks_run_tools_of_the_environment() -> None:
    """Each hook before a commit runs a tool that `make check` runs."""
    [repository] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    recipe = (ROOT / "Makefile").read_text()
    for hook in repository["hooks"]:
        command = hook["entry"].removeprefix(".venv/bin/")
        assert f"$(BIN)/{command}\n" in recipe or f"$(BIN)/{command} .\n" in recipe, hook["entry"]
        assert Path(sys.executable).with_name(command.split()[0]).exists()


def test_shell_scripts_are_bash() -> None:
    """Every script of the examples, and every `sh` block of the pages, is something that bash can read."""
    every = re.MULTILINE | re.DOTALL
    scripts = [path.read_text() for path in (ROOT / "docs" / "examples").glob("*.sh")]
    blocks = [block for page in PAGES for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), every)]
    for script in (*scripts, *blocks):
        done = subprocess.run(["bash", "-n", "-c", script], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), script
