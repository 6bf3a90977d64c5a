"""The network as `nn.Module`s alone: no files, no numpy, no choice of devices."""
