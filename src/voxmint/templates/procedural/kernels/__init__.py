"""The hot loops of procedural shapes: distance fields, the noise that makes them irregular, and loose parts.

Plain arrays in and out. Lengths are in voxels; a field is sampled every ``step`` voxels, so node (a, b, c) lies at
``step * (a, b, c)``. A value is the distance to the surface, negative inside, exact or close to it near the surface.
Only + - * / and square roots in a fixed order: the same bits on every machine.
"""
