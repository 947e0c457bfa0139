"""What docs/frameworks.md says, with the frameworks themselves behind the edge."""
