"""Networks: the encoder that gives all layers, the fusion, the decoder, the autoencoder of the three, the denoiser."""
