"""Pictures that explain what a backbone attends to and what adaptation changed."""
