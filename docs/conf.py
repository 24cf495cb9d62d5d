"""How Sphinx builds the documentation; `scripts/docs` runs it, and a warning is an error."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from docutils import nodes
from docutils.parsers.rst import Directive
from myst_parser.parsers.sphinx_ import MystParser

from pingdata_async import __version__
from pingdata_async.cli.main import cli

sys.path.insert(0, str(Path(__file__).parent))

from notebook import markdown

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "pingdata-async"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_show_copyright = False
html_title = f"{project} {version}"
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
napoleon_use_ivar = True
suppress_warnings = ["config.cache"]


class CommandHelp(Directive):
    """The whole help of every command, as the command prints it."""

    def run(self) -> list[nodes.Node]:
        """A section for each command."""
        made: list[nodes.Node] = []
        for name, command in cli.loaded().items():
            section = nodes.section(ids=[nodes.make_id(name)])
            section += nodes.title(text=name)
            text = _help_of(command, name)
            section += nodes.literal_block(text, text, language="text")
            made.append(section)
        return made


class NotebookParser(MystParser):
    """Makes a page of a notebook, with the outputs that are stored in it."""

    supported = ("notebook",)  # type: ignore[misc] # myst-parser and docutils disagree on it

    def parse(self, inputstring: str, document: nodes.document) -> None:
        """Parse it as Markdown."""
        super().parse(markdown(inputstring), document)


def _help_of(command: click.Command, name: str) -> str:
    parent = click.Context(
        cli, info_name="pingdata-async", terminal_width=88, **cli.context_settings
    )
    with click.Context(command, parent=parent, info_name=name, terminal_width=88) as context:
        context.meta["pingdata_async.cli.help.all"] = True
        return command.get_help(context)


def mark_code(
    _app: Sphinx, _what: str, _name: str, _thing: object, _options: object, lines: list[str]
) -> None:
    """Docstrings mark code as Markdown does; reStructuredText wants two backticks."""
    marked = re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``", "\n".join(lines))
    marked = re.sub(r"``(?=\w+\b)(?<=\w``)", r"``\\ ", marked)  # a plural: `Location`s
    lines[:] = marked.split("\n")


def setup(app: Sphinx) -> None:
    """Called by Sphinx as it starts."""
    app.add_directive("command-help", CommandHelp)
    app.add_source_suffix(".ipynb", "notebook")
    app.add_source_parser(NotebookParser)
    app.connect("autodoc-process-docstring", mark_code, priority=400)  # before napoleon
