"""Reasoning tasks over sets of objects and graphs (Xu et al. 2020, 1905.13211)."""
