"""An agent and a task of one's own for Terrarium."""
