"""The LightningModules: what trains on which domains, and what is adapted."""
