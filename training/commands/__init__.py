"""The subcommands of `python -m training`, one a module.

What takes long to import is imported after the arguments are read, so that --help and a wrong option take no time.
"""
