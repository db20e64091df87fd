"""A page on which one draws a digit, and sees what each layer of the network makes of it."""
