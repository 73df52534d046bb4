"""Layer-wise relevance propagation (LRP), and the relevance of single channels (CRP)."""
