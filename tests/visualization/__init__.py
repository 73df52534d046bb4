"""Tests of the looks into models."""
