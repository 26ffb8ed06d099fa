"""Attacks on a service of this machine: bounded clients that misuse it, and bystanders that measure what others feel."""
