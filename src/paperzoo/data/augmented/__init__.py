"""Images that torchvision's transforms change in training: RandAugment, colours, erased rectangles."""
