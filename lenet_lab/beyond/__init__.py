"""Beyond the lab: augmentation, better optimizers, trainings with several seeds, the network kept from them."""
