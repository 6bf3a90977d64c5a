"""The network as `nn.Module`s and nothing else: no files, no numpy, no devices chosen."""
