"""The `mem3r` command: one module per subcommand.

A module `mem3r_plugin.commands.NAME` offers `parse(arguments) -> Command`; a command is a frozen
dataclass that holds the options and does its work when called.
"""
