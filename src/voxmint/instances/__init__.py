"""Samples around annotated instances: from a materialization table and two layers to training crops."""
