"""Attacks on a service of this machine: clients that misuse it, and bystanders that measure what others feel."""
