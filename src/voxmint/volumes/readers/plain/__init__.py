"""Layers in plain files and in memory."""
