"""The benchmark of readers and detectors: recipes, runs, scores, tables, the page of errors."""
