"""Tessella."""
