"""Tests: contracts over the registries, known answers, and what must survive a crash."""
