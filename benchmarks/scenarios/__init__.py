"""What is measured how: one scenario a module."""
