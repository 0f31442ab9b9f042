"""Tensor operations beneath the losses; this package knows torch and nothing else of the project.

`segment` holds the eager segment operations over contiguous sessions. They are the definition of
truth: a fused kernel that joins them here has to return what they return.
"""
