"""The FairQuant paper (arXiv 2602.23192): its importances, reducers, allocator, quantizers and regularizers."""
