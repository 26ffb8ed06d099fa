"""The subcommands of `python -m training`, one a module."""
