"""Engines that run tasks: local processes, Dask or Ray. Each is imported only when it is chosen."""
