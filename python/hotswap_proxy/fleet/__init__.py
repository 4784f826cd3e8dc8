"""Nodes that share a store: following its changes, knowing of each other, going on without it."""
