"""TorchScript export of the trained closure, its certificate, and the check of the exported file."""
