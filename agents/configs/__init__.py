"""Settings of the agents, in modules without torch, so that --print-config is fast."""
