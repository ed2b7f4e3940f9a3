"""How any task trains: the loop, its optimizers and checkpoints, the record of a run, legs, the dry run."""
