"""Tests of the tasks of handwriting."""
