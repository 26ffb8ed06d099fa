"""Where tasks run: processes of this machine, Dask or Ray; each engine is imported only when it is chosen."""
