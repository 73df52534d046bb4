"""Tests of whole commands and runs."""
