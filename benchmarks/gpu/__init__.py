"""Training on a GPU: what a step costs in each way to run it. It needs torch, numpy and attrs."""
