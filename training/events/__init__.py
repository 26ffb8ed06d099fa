"""LHC events: features, units, labels, kinematics, and file formats."""
