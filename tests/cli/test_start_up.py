"""The command until it begins: what it lists."""

from __future__ import annotations

import pytest

from pingdata_async.cli.main import CommandToLoad, cli


@pytest.mark.parametrize("name", cli.commands)
def test_a_command_is_listed_as_it_says_itself(name: str) -> None:
    """The listing has each command's first sentence, without loading it."""
    stand_in = cli.commands[name]
    assert isinstance(stand_in, CommandToLoad)
    command = stand_in.load()
    assert command.name == name
    assert command.get_short_help_str(limit=200) == stand_in.get_short_help_str(limit=200)
