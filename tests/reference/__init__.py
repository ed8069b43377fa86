"""A slow, plain implementation of the whole method, written from its specification: what the fast one must agree with.

It shares no code with `voxmint`: warps and morphology are scipy's and scikit-image's, the artifacts are MONAI's own
transforms, and the random version draws its parameters from the published constants with NumPy.
"""
