"""What tests of layers and experiments share, those of a plug-in included.

Tests themselves lie outside, in a folder that is not installed; nothing else imports this.
"""
