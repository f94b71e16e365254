"""Pictures of a backbone's attention and of the changes by adaptation."""
