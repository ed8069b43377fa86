"""Materialization tables."""
