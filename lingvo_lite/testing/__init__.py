"""What tests of layers and experiments share; nothing else may import it."""
