"""Settings of the agents, in modules without torch: --print-config does not wait for it."""
