"""Training: the plan, the stages, the optimizer's flat buffers, the step, checkpoints, and the loop around them."""
