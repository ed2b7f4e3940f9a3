"""What ``train.fit`` does: reads an encoder and a folder, plans the time, writes a recipe, measures, writes a card."""
