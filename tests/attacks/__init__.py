"""Attacks on a service of this machine, and bystanders that measure what others feel of them."""
