"""Text by line or record: tokenizers, pairs of sentences, inputs of text.

Reading files of lines is source.py one up; the words that speech is trained on come from here too.
"""
