"""The subcommands of `python -m training`, one module each.

Slow imports are made after the arguments are parsed, so that --help and errors in the arguments are fast.
"""
