"""Tables, figures and pages made from a study's results."""
