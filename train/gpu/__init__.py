"""Training a leg on one GPU in minutes: data on the card, large batches, and a schedule that ends on time."""
