"""Images with a label or a map: sources, decoding, augmentation, batches on the device."""
