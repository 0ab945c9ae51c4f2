"""The test's own side of the product's interfaces: written from the published rules alone, sharing no code with it."""
