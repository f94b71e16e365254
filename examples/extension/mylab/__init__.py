"""An adapter, an objective, a decoder, a data module and a callback of your own, named in yaml by their class paths."""
