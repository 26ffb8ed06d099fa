"""LHC events: features, units, labels, kinematics, and the files that hold them."""
