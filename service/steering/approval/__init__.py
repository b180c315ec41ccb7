"""The approval of a sample: how a batch stops at its gate, and who lets its other rows through."""
