"""Streams of unknown providers: their pieces joined, and their ends judged in the words of any framework.

generic     texts are joined, one object is the reply, several are a list
last_event  a last event that says that the text before it is not whole
"""
