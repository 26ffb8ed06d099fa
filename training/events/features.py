"""The features of events: their names, in order, and units."""

# Jet 1 has the highest pT of the event, jet 2 the second highest.
FEATURE_NAMES: tuple[str, ...] = (
    *("pxj1", "pyj1", "pzj1", "mj1", "tau1j1", "tau2j1", "tau3j1"),
    *("pxj2", "pyj2", "pzj2", "mj2", "tau1j2", "tau2j2", "tau3j2"),
)
FEATURE_UNITS: tuple[str, ...] = ("GeV",) * len(FEATURE_NAMES)  # taus too: N-subjettiness is not normalised here
