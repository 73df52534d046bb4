"""What every look into a model rests on: tracing, targets, inputs, statistics, style."""
